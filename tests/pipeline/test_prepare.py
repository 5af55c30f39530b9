"""Prepare on real files: every row is accounted for, and what is written is what the model will see."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from conftest import SHARED
from random_models import Reports, tokenizer, write_model
from sft_runner.config.schema import Config, Data
from sft_runner.data.files import CHECKED_BYTES, check
from sft_runner.data.row import Dropped
from sft_runner.errors import DataError
from sft_runner.stages.prepare import BATCH, Prepare
from sft_runner.stages.stage import Result

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the data beside the checkout is not there")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def prepare(model: Path, path: Path, folder: Path, report: Any = None, **settings: Any) -> Result:
    config = Config()
    config.model.name, config.data.path = str(model), str(path)
    for key, value in settings.items():
        setattr(config.data, key, value)
    folder.mkdir()
    return Prepare().execute(config, {}, folder, Reports() if report is None else report)


def load(folder: Path) -> list[dict[str, Any]]:
    return list(Dataset.load_from_disk(folder))


def write_lines(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return file


def questions(count: int) -> list[dict[str, Any]]:
    return [{"question": f"What is {i} + {i}?", "answer": f"{2 * i}"} for i in range(count)]


def test_every_row_is_used_or_counted_under_a_reason(model: Path, tmp_path: Path) -> None:
    rows = [
        *questions(20),
        {"question": "What is 3 + 3?", "answer": "6"},  # as row 4
        {"question": "What is 3 + 3?", "answer": "six"},
        {"question": "q", "answer": " "},
        {"question": "", "answer": "a"},
        {"question": "q", "answer": "a<|im_end|>"},
        {"question": "q", "answer": "long" * 100},
    ]
    file = write_lines(tmp_path / "rows.jsonl", rows)
    result = prepare(model, file, tmp_path / "out", max_length=200, held_out=0.2)
    counts = result.metrics["rows"]
    dropped = dict.fromkeys((reason.value for reason in Dropped), 0)
    dropped |= {"duplicate": 1, "empty_answer": 1, "empty_prompt": 1, "special_token_in_text": 1, "overlong": 1}
    assert counts == {"read": 26, "train": 17, "held_out": 4, "dropped": dropped}
    assert counts["read"] == counts["train"] + counts["held_out"] + sum(counts["dropped"].values())
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["rows"] == counts
    assert report["format"] == "qa"
    assert report["dropped_examples"]["duplicate"] == ["rows.jsonl:21"]
    assert report["dropped_examples"]["overlong"] == ["rows.jsonl:26"]
    train, held_out = load(tmp_path / "out" / "train"), load(tmp_path / "out" / "held_out")
    assert (len(train), len(held_out)) == (17, 4)
    lines = [int(row["source"].partition(":")[2]) for row in train]
    assert lines == sorted(lines)
    assert {*lines} & {int(row["source"].partition(":")[2]) for row in held_out} == set()
    assert {entry.name for entry in (tmp_path / "out").iterdir()} == {"train", "held_out", "report.json", "preview.md"}


def test_numbers_and_lineage_are_those_of_the_rows(model: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", questions(30))
    result = prepare(model, file, tmp_path / "out", held_out=10)
    train = load(tmp_path / "out" / "train")
    lengths = [len(row["input_ids"]) for row in train]
    assert result.metrics["tokens"] == {
        "train": sum(lengths),
        "trained": sum(label != -100 for row in train for label in row["labels"]),
        "longest": max(lengths),
        "mean": round(sum(lengths) / 20, 2),
    }
    assert [(d.name, d.rows, d.context) for d in result.datasets] == [
        ("rows.jsonl", 20, "training"),
        ("rows.jsonl", 10, "evaluation"),
    ]
    assert {len(d.digest) for d in result.datasets} == {32}


def test_the_preview_marks_what_is_trained(model: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", [{"question": "q", "answer": "a"}, {"question": "r", "answer": "b"}])
    prepare(model, file, tmp_path / "out", held_out=0)
    assert "<|im_start|>assistant\n⟦a<|im_end|>⟧\n" in (tmp_path / "out" / "preview.md").read_text(encoding="utf-8")


def test_nothing_held_out_leaves_an_empty_set(model: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", questions(5))
    result = prepare(model, file, tmp_path / "out", held_out=0)
    assert result.metrics["rows"]["train"] == 5
    assert load(tmp_path / "out" / "held_out") == []
    assert Dataset.load_from_disk(tmp_path / "out" / "held_out").column_names == [
        "input_ids", "labels", "messages", "prompt_length", "source",
    ]  # fmt: skip


def test_progress_ends_at_the_last_row(model: Path, tmp_path: Path) -> None:
    reports = Reports()
    file = write_lines(tmp_path / "rows.jsonl", questions(BATCH + 5))
    prepare(model, file, tmp_path / "out", reports)
    assert [report["step"] for report in reports] == [BATCH, BATCH + 5]
    assert reports[-1]["steps"] == BATCH + 5


def test_a_limit_reads_the_first_rows(model: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", questions(9))
    assert prepare(model, file, tmp_path / "out", limit=6, held_out=1).metrics["rows"]["read"] == 6


def test_the_same_rows_give_the_same_bytes(model: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", questions(50))
    for name in ("one", "two"):
        prepare(model, file, tmp_path / name)
    for part in ("train", "held_out"):
        one, two = (next((tmp_path / name / part).glob("*.arrow")).read_bytes() for name in ("one", "two"))
        assert one == two


def test_pairs_of_one_function_stay_on_one_side(model: Path, tmp_path: Path) -> None:
    body = "    b = a\n    c = b\n    return {}\n\n\n"
    functions = [f'def f{i}(a):\n    """Gives back number {i}."""\n' + body.format(i) for i in range(20)]
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "many.py").write_text("".join(functions))
    (tmp_path / "code" / "broken.py").write_text("def")
    result = prepare(model, tmp_path / "code", tmp_path / "out", format="python", held_out=10)
    assert (result.metrics["rows"]["train"], result.metrics["rows"]["held_out"]) == (30, 10)
    sides = [{row["source"] for row in load(tmp_path / "out" / part)} for part in ("train", "held_out")]
    assert sides[0] & sides[1] == set()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["besides_rows"] == {"files": 2, "files_not_parsed": 1}


@pytest.mark.parametrize(
    ("rows", "settings", "told"),
    [
        (
            questions(3) + [{"question": "q", "answer": "a" * 300}],
            {"max_length": 200, "overlong": "error"},
            "line 4: 3",
        ),
        (questions(3), {"max_length": 8}, "none of 3 rows can be used: 3 overlong"),
        (questions(3), {"held_out": 3}, "data.held_out: 3 leaves nothing of 3 rows"),
    ],
)
def test_rows_that_cannot_be_prepared_are_explained(
    model: Path, tmp_path: Path, rows: list[dict[str, Any]], settings: dict[str, Any], told: str
) -> None:
    file = write_lines(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match=told) as caught:
        prepare(model, file, tmp_path / "out", **settings)
    assert caught.value.exit_code == 2


def test_what_the_quick_check_cannot_see_is_found(model: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", questions(3))
    with file.open("a") as lines:
        lines.write("\n" * CHECKED_BYTES + '{"question": "q"}\n')
    check(Data(path=str(file)))
    with pytest.raises(DataError, match=f"line {CHECKED_BYTES + 3}: answer is missing"):
        prepare(model, file, tmp_path / "out")


@needs_shared
@pytest.mark.parametrize(
    ("name", "read", "duplicates"),
    [("gsm8k_test.jsonl", 1319, 0), ("alpaca_en_demo.json", 999, 14), ("identity.json", 91, 0)],
)
def test_public_data_has_the_ids_of_the_chat_template(
    model: Path, tmp_path: Path, name: str, read: int, duplicates: int
) -> None:
    result = prepare(model, SHARED / "data" / name, tmp_path / "out", max_length=4096)
    counts = result.metrics["rows"]
    assert counts["read"] == read == counts["train"] + counts["held_out"] + sum(counts["dropped"].values())
    assert sum(counts["dropped"].values()) == counts["dropped"]["duplicate"] == duplicates
    for row in load(tmp_path / "out" / "train") + load(tmp_path / "out" / "held_out"):
        messages = json.loads(row["messages"])
        assert row["input_ids"] == tokenizer().apply_chat_template(messages, return_dict=False)
        prompt = tokenizer().apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
        assert row["input_ids"][: row["prompt_length"]] == prompt
        trained = [label for label in row["labels"] if label != -100]
        assert tokenizer().decode(trained) == messages[-1]["content"] + "<|im_end|>"
        assert row["labels"][: row["prompt_length"]] == [-100] * len(prompt)
