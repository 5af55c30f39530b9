"""Prepare on real files: every row is accounted for, and what is written is what the model will see."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from conftest import SHARED
from random_models import Reports, tokenizer, write_model
from sft_runner.config.schema import Config, Data
from sft_runner.data import pool
from sft_runner.data.encoding import BATCH
from sft_runner.data.files import CHECKED_BYTES, check
from sft_runner.errors import DataError
from sft_runner.stages.prepare import Prepare
from sft_runner.stages.stage import Result

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the data beside the checkout is not there")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def prepare(model: Path, path: Path | None, folder: Path, report: Any = None, **settings: Any) -> Result:
    config = Config()
    config.model.name, config.data.path = str(model), str(path) if path else None
    for key, value in settings.items():
        setattr(config.data, key, value)
    folder.mkdir()
    return Prepare().execute(config, {}, folder, Reports() if report is None else report)


def load(folder: Path, part: str = "train") -> list[dict[str, Any]]:
    return list(Dataset.from_file(str(folder / f"{part}.arrow")))


def reported(folder: Path) -> dict[str, Any]:
    """The report, after a check that its sums are right, for each source and for all of them."""
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    for rows in (report["rows"], *(source["rows"] for source in report["sources"].values())):
        assert rows["read"] + rows["added"] == rows["used"] + sum(rows["dropped"].values())
        assert rows["used"] == rows["train"] + rows["held_out"]
    for name in ("read", "used", "train", "held_out", "added", "truncated"):
        assert report["rows"][name] == sum(source["rows"][name] for source in report["sources"].values())
    assert report["rows"]["held_out"] == len(load(folder, "held_out")) == sum(report["kinds"].values())
    return report


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
    reasons = ("duplicate", "empty_answer", "empty_prompt", "special_token_in_text", "overlong")
    assert counts["dropped"] == dict.fromkeys(reasons, 1)
    assert (counts["read"], counts["train"], counts["held_out"]) == (26, 17, 4)
    report = reported(tmp_path / "out")
    assert report["rows"] == counts
    assert report["sources"]["rows.jsonl"]["formats"] == {"qa": 26}
    assert report["dropped_examples"]["duplicate"] == ["rows.jsonl:21"]
    assert report["dropped_examples"]["overlong"] == ["rows.jsonl:26"]
    assert [(w["kind"], w["count"]) for w in report["warnings"]] == [("ambiguous", 2), ("repeated", 1)]
    train, held_out = load(tmp_path / "out"), load(tmp_path / "out", "held_out")
    assert (len(train), len(held_out)) == (17, 4)
    lines = [int(row["source"].partition(":")[2]) for row in train]
    assert lines == sorted(lines)
    assert {*lines} & {int(row["source"].partition(":")[2]) for row in held_out} == set()
    made = {"train.arrow", "held_out.arrow", "report.json", "report.html", "preview.md"}
    assert {entry.name for entry in (tmp_path / "out").iterdir()} == made


def test_numbers_and_lineage_are_those_of_the_rows(model: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", questions(30))
    result = prepare(model, file, tmp_path / "out", held_out=10)
    train, held_out = load(tmp_path / "out"), load(tmp_path / "out", "held_out")
    lengths = [len(row["input_ids"]) for row in train]
    trained = sum(label != -100 for row in train for label in row["labels"])
    assert result.metrics["tokens"] == {
        "train": sum(lengths),
        "trained": trained,
        "share_trained": round(trained / sum(lengths), 4),
        "longest": max(lengths),
        "mean": round(sum(lengths) / 20, 2),
        "held_out": sum(len(row["input_ids"]) for row in held_out),
    }
    characters = sum(len(m["content"]) for row in train + held_out for m in json.loads(row["messages"]))
    assert result.metrics["characters"] == {"total": characters, "mean": round(characters / 30, 2)}
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
    assert load(tmp_path / "out", "held_out") == []
    assert Dataset.from_file(str(tmp_path / "out" / "held_out.arrow")).column_names == [
        "input_ids", "labels", "messages", "tools", "prompt_length", "source", "rejected", "origin", "kind",
    ]  # fmt: skip


def test_progress_ends_at_the_last_row(model: Path, tmp_path: Path) -> None:
    reports = Reports()
    file = write_lines(tmp_path / "rows.jsonl", questions(BATCH + 5))
    prepare(model, file, tmp_path / "out", reports)
    steps = [report for report in reports if "step" in report]
    assert [report["step"] for report in steps] == [BATCH, BATCH + 5]
    assert steps[-1]["steps"] == BATCH + 5


def test_a_limit_reads_the_first_rows(model: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", questions(9))
    assert prepare(model, file, tmp_path / "out", limit=6, held_out=1).metrics["rows"]["read"] == 6


def test_the_same_rows_give_the_same_bytes(model: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", questions(50))
    for name in ("one", "two"):
        prepare(model, file, tmp_path / name)
    for part in ("train", "held_out"):
        one, two = ((tmp_path / name / f"{part}.arrow").read_bytes() for name in ("one", "two"))
        assert one == two


def test_pairs_of_one_function_stay_on_one_side(model: Path, tmp_path: Path) -> None:
    body = "    b = a\n    c = b\n    return {}\n\n\n"
    functions = [f'def f{i}(a):\n    """Gives back number {i}."""\n' + body.format(i) for i in range(20)]
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "many.py").write_text("".join(functions))
    (tmp_path / "code" / "broken.py").write_text("def")
    prepare(model, tmp_path / "code", tmp_path / "out", format="python", held_out=12)
    sides = [{row["source"] for row in load(tmp_path / "out", part)} for part in ("train", "held_out")]
    assert sides[0] & sides[1] == set()
    report = reported(tmp_path / "out")
    besides = report["sources"]["code"]["besides"]
    assert (besides["files"], besides["files_not_parsed"]) == (2, 1)
    assert report["rows"]["train"] > report["rows"]["held_out"] > 0


@pytest.mark.parametrize(
    ("rows", "settings", "told"),
    [
        (
            questions(3) + [{"question": "q", "answer": "a" * 300}],
            {"max_length": 200, "overlong": "error"},
            "line 4: 3",
        ),
        (questions(3), {"max_length": 8}, "none of 3 rows can be learned from: 3 overlong"),
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
        lines.writelines(f'\n{{"question": "{i} {"q" * 1000}?", "answer": "a"}}' for i in range(CHECKED_BYTES // 1000))
        lines.write('\n{"question": "q"}\n')
    check(Data(path=str(file)))
    with pytest.raises(DataError, match=f"line {CHECKED_BYTES // 1000 + 4}: answer is missing"):
        prepare(model, file, tmp_path / "out")


def test_children_and_this_process_give_the_same_bytes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_lines(tmp_path / "rows.jsonl", questions(6 * BATCH))
    monkeypatch.setattr(pool, "cores", lambda: 1)
    prepare(model, file, tmp_path / "alone")
    monkeypatch.setattr(pool, "cores", lambda: 3)
    prepare(model, file, tmp_path / "children")
    for part in ("train", "held_out"):
        assert (tmp_path / "alone" / f"{part}.arrow").read_bytes() == (
            tmp_path / "children" / f"{part}.arrow"
        ).read_bytes()
    assert reported(tmp_path / "alone") | {"seconds": 0} == reported(tmp_path / "children") | {"seconds": 0}


def test_a_mistake_in_a_child_names_its_row(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "cores", lambda: 2)
    rows: list[dict[str, Any]] = questions(6 * BATCH)
    rows[5 * BATCH]["answer"] = 7
    with pytest.raises(DataError, match=f"line {5 * BATCH + 1}: answer is a number, not text"):
        prepare(model, write_lines(tmp_path / "rows.jsonl", rows), tmp_path / "out")


def test_sources_are_mixed_by_weight_and_cap(model: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "twice.jsonl", [{"question": f"a{i}", "answer": "1"} for i in range(10)])
    write_lines(tmp_path / "half.jsonl", [{"instruction": f"b{i}", "output": "2"} for i in range(10)])
    write_lines(tmp_path / "some.jsonl", [{"text": f"c{i}"} for i in range(10)])
    write_lines(tmp_path / "asked.jsonl", [{"question": f"d{i}", "answer": "4"} for i in range(10)])
    sources = {
        "twice": {"path": str(tmp_path / "twice.jsonl"), "weight": 2},
        "half": {"path": str(tmp_path / "half.jsonl"), "weight": 0.5},
        "some": {"path": str(tmp_path / "some.jsonl"), "cap": 3},
        "asked": {"path": str(tmp_path / "asked.jsonl"), "held_out": "all"},
    }
    prepare(model, None, tmp_path / "out", sources=sources, held_out=0)
    learned = [row["origin"] for row in load(tmp_path / "out")]
    assert {name: learned.count(name) for name in sources} == {"twice": 20, "half": 5, "some": 3, "asked": 0}
    assert {row["origin"] for row in load(tmp_path / "out", "held_out")} == {"asked"}
    report = reported(tmp_path / "out")
    assert report["sources"]["half"]["rows"]["dropped"] == {"capped": 5}
    assert report["sources"]["some"]["rows"]["dropped"] == {"capped": 7}
    assert report["sources"]["twice"]["rows"]["train"] == 10


def test_a_question_that_is_held_out_is_not_learned_from_another_source(model: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "learned.jsonl", [{"question": f"  WHAT is {i}?", "answer": "other"} for i in range(10)])
    write_lines(tmp_path / "asked.jsonl", [{"question": f"What is {i}?", "answer": "4"} for i in range(5)])
    sources = {
        "learned": {"path": str(tmp_path / "learned.jsonl"), "held_out": 0},
        "asked": {"path": str(tmp_path / "asked.jsonl"), "held_out": "all"},
    }
    prepare(model, None, tmp_path / "out", sources=sources)
    report = reported(tmp_path / "out")
    assert report["leaks"] == 5
    assert report["sources"]["learned"]["rows"]["dropped"] == {"held_out_twin": 5}
    assert sorted(row["source"] for row in load(tmp_path / "out")) == [f"learned.jsonl:{i}" for i in (10, 6, 7, 8, 9)]


def section(name: str) -> str:
    return f"## {name}\n\nThe {name} of this thing is described here at some length, so that it can be learned.\n\n"


def test_documents_hold_out_whole_files_and_other_wordings(model: Path, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for number in range(30):
        text = "".join(section(f"{part} {number}") for part in ("colour", "size", "weight", "price"))
        (tmp_path / "docs" / f"{number}.md").write_text(f"# Thing {number}\n\n{text}")
    prepare(model, tmp_path / "docs", tmp_path / "out", format="docs", held_out=0.2)
    train, held_out = load(tmp_path / "out"), load(tmp_path / "out", "held_out")
    learned_files = {row["source"].partition(":")[0] for row in train}
    questions = {json.loads(row["messages"])[0]["content"] for row in train}
    kinds = {row["kind"] for row in held_out}
    assert kinds == {"unseen", "reworded"}
    for row in held_out:
        assert (row["source"].partition(":")[0] in learned_files) == (row["kind"] == "reworded")
        assert json.loads(row["messages"])[0]["content"] not in questions
    answers = {json.loads(row["messages"])[-1]["content"] for row in train}
    assert {json.loads(row["messages"])[-1]["content"] for row in held_out if row["kind"] == "reworded"} <= answers
    reported(tmp_path / "out")


def test_one_document_is_asked_in_other_words(model: Path, tmp_path: Path) -> None:
    (tmp_path / "guide.md").write_text("# Guide\n\n" + "".join(section(f"part {i}") for i in range(60)))
    prepare(model, tmp_path / "guide.md", tmp_path / "out", held_out=0.2)
    assert {row["kind"] for row in load(tmp_path / "out", "held_out")} == {"reworded"}
    assert "few_files" in {warning["kind"] for warning in reported(tmp_path / "out")["warnings"]}


LONG = [
    {"role": "system", "content": "Be brief."},
    *({"role": role, "content": f"{role} {turn} " + "x" * 40} for turn in range(6) for role in ("user", "assistant")),
]


@pytest.mark.parametrize(("overlong", "rows", "added", "truncated"), [("truncate", 1, 0, 1), ("split", 2, 1, 0)])
def test_a_long_conversation_is_cut_behind_an_answer(
    model: Path, tmp_path: Path, overlong: str, rows: int, added: int, truncated: int
) -> None:
    file = write_lines(tmp_path / "rows.jsonl", [{"messages": LONG}])
    prepare(model, file, tmp_path / "out", overlong=overlong, max_length=420, held_out=0)
    report = reported(tmp_path / "out")["rows"]
    assert (report["used"], report["added"], report["truncated"]) == (rows, added, truncated)
    for row in load(tmp_path / "out"):
        messages = json.loads(row["messages"])
        assert messages[0] == LONG[0]
        assert messages[-1]["role"] == "assistant"
        assert len(row["input_ids"]) <= 420
        assert row["input_ids"] == tokenizer().apply_chat_template(messages, return_dict=False)
    if overlong == "split":
        kept = [message for row in load(tmp_path / "out") for message in json.loads(row["messages"])[1:]]
        assert kept == LONG[1:]


def test_one_long_answer_is_cut_inside_it_and_counted(model: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", [*questions(3), {"question": "q", "answer": "a" * 300}])
    prepare(model, file, tmp_path / "out", overlong="truncate", max_length=200, held_out=0)
    row = load(tmp_path / "out")[-1]
    assert len(row["input_ids"]) == 200
    assert row["labels"][-1] == row["input_ids"][-1]
    assert reported(tmp_path / "out")["rows"]["truncated"] == 1


def test_a_long_text_becomes_windows_that_lose_nothing(model: Path, tmp_path: Path) -> None:
    text = "".join(f"{i}," for i in range(300))
    file = write_lines(tmp_path / "rows.jsonl", [{"text": text}])
    prepare(model, file, tmp_path / "out", overlong="split", max_length=100, held_out=0)
    ids = [token for row in load(tmp_path / "out") for token in row["input_ids"]]
    assert tokenizer().decode(ids) == text + "<|im_end|>"


@pytest.mark.parametrize(("suspect", "used"), [("warn", 4), ("drop", 3)])
def test_a_placeholder_is_warned_of_or_dropped(model: Path, tmp_path: Path, suspect: str, used: int) -> None:
    rows = [*questions(3), {"question": "Who are you?", "answer": "I am {{name}}."}]
    prepare(model, write_lines(tmp_path / "rows.jsonl", rows), tmp_path / "out", suspect=suspect, held_out=0)
    report = reported(tmp_path / "out")
    assert report["rows"]["used"] == used
    (warning,) = report["warnings"]
    assert (warning["kind"], warning["count"], warning["examples"]) == ("placeholder", 1, ["rows.jsonl:4"])
    with pytest.raises(DataError, match="line 4: .*placeholder"):
        prepare(model, tmp_path / "rows.jsonl", tmp_path / "error", suspect="error", held_out=0)


def test_bad_rows_can_be_counted_instead(model: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", [*questions(3), {"question": "q", "answer": 7}])
    file.write_text(file.read_text() + "\nnot json\n\n" + json.dumps(questions(4)[3]))
    prepare(model, file, tmp_path / "out", bad_rows="drop", held_out=0)
    report = reported(tmp_path / "out")["rows"]
    assert (report["used"], report["dropped"]) == (4, {"malformed": 2})


def test_it_tells_how_full_steps_are(model: Path, tmp_path: Path) -> None:
    """Of rows of one length, and of rows of two lengths."""
    found = {}
    for name, longest in (("same", 1), ("mixed", 400)):
        rows = [{"question": "q" * (longest if i % 2 else 1), "answer": f"{i:03}"} for i in range(200)]
        prepare(model, write_lines(tmp_path / f"{name}.jsonl", rows), tmp_path / name, max_length=512, held_out=0)
        found[name] = reported(tmp_path / name)["packing"]
    assert found["same"] == {"rows": 200, "rows_per_step": 16, "efficiency": 1.0, "padded_efficiency": 1.0}
    assert found["mixed"]["efficiency"] == 1.0  # two lengths make two passes
    lengths = [len(row["input_ids"]) for row in load(tmp_path / "mixed")]
    assert len(set(lengths)) == 2
    expected = sum(lengths) / (len(lengths) * max(lengths))  # each step has a long row
    assert found["mixed"]["padded_efficiency"] == pytest.approx(expected, abs=1e-4)


def test_a_test_set_is_never_learned_from_another_source(model: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "same.jsonl", questions(10))
    sources = {"a": {"path": str(file), "held_out": 0}, "z": {"path": str(file), "held_out": "all"}}
    write_lines(tmp_path / "more.jsonl", [{"question": "more?", "answer": "yes"}])
    sources["more"] = {"path": str(tmp_path / "more.jsonl")}
    prepare(model, None, tmp_path / "out", sources=sources)
    assert {row["origin"] for row in load(tmp_path / "out", "held_out")} == {"z"}
    assert {row["origin"] for row in load(tmp_path / "out")} == {"more"}
    assert reported(tmp_path / "out")["leaks"] == 10


def test_a_row_that_is_capped_in_one_source_is_learned_from_the_other(model: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "same.jsonl", questions(20))
    sources = {"a": {"path": str(file), "cap": 1}, "b": {"path": str(file)}}
    prepare(model, None, tmp_path / "out", sources=sources, held_out=0)
    assert len(load(tmp_path / "out")) == 20
    rows = reported(tmp_path / "out")["rows"]["dropped"]
    assert rows == {"duplicate": 1, "capped": 19}


def test_files_of_one_name_in_two_sources_are_two_files(model: Path, tmp_path: Path) -> None:
    for source in ("a", "b"):
        (tmp_path / source).mkdir()
        for name in ("index", "usage"):
            (tmp_path / source / f"{name}.md").write_text(f"# {source} {name}\n\n{section(f'{source} {name}')}")
    sources = {
        "a": {"path": str(tmp_path / "a"), "held_out": "all"},
        "b": {"path": str(tmp_path / "b"), "held_out": 0},
    }
    prepare(model, None, tmp_path / "out", sources=sources)
    assert {row["origin"] for row in load(tmp_path / "out")} == {"b"}
    assert reported(tmp_path / "out")["leaks"] == 0


def test_a_fact_that_is_not_learned_is_not_asked_as_learned(model: Path, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for number in range(6):
        text = "".join(section(f"part {number} {part}") for part in range(12))
        (tmp_path / "docs" / f"{number}.md").write_text(f"# Thing {number}\n\n{text}")
    sources = {"docs": {"path": str(tmp_path / "docs"), "cap": 8, "held_out": 0.3}}
    prepare(model, None, tmp_path / "out", sources=sources)
    answers = {json.loads(row["messages"])[-1]["content"] for row in load(tmp_path / "out")}
    assert len(answers) == 8
    for row in load(tmp_path / "out", "held_out"):
        assert (json.loads(row["messages"])[-1]["content"] in answers) == (row["kind"] == "reworded")
    reported(tmp_path / "out")


def test_rows_that_differ_in_what_is_learned_or_kept_are_no_duplicates(model: Path, tmp_path: Path) -> None:
    turns = [{"role": role, "content": f"{role} {i}"} for i in range(2) for role in ("user", "assistant")]
    masked = [turns[0], turns[1] | {"train": False}, *turns[2:]]
    prepare(model, write_lines(tmp_path / "a.jsonl", [{"messages": masked}, {"messages": turns}]), tmp_path / "a",
            held_out=0)  # fmt: skip
    assert len(load(tmp_path / "a")) == 2
    pairs = [{"prompt": "p", "chosen": "good", "rejected": f"bad {i}"} for i in range(3)]
    prepare(model, write_lines(tmp_path / "b.jsonl", pairs), tmp_path / "b", held_out=0)
    assert sorted(json.loads(row["rejected"])[0]["content"] for row in load(tmp_path / "b")) == [
        f"bad {i}" for i in range(3)
    ]


def test_equal_rows_are_not_called_ambiguous(model: Path, tmp_path: Path) -> None:
    prepare(model, write_lines(tmp_path / "a.jsonl", questions(5) * 2), tmp_path / "out", held_out=0)
    assert reported(tmp_path / "out")["warnings"] == []


def test_a_bad_first_row_can_be_counted_too(model: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", [{"foo": 1}, *questions(4)])
    check(Data(path=str(file), bad_rows="drop"))
    prepare(model, file, tmp_path / "out", bad_rows="drop", held_out=0)
    assert reported(tmp_path / "out")["rows"]["dropped"] == {"malformed": 1}


def trained_texts(folder: Path) -> list[str]:
    return [tokenizer().decode([label for label in row["labels"] if label != -100]) for row in load(folder)]


@pytest.mark.parametrize(
    ("train_on", "overlong"), [(a, b) for a in ("last", "completion") for b in ("truncate", "split")]
)
def test_a_cut_row_learns_nothing_that_the_whole_row_would_not(
    model: Path, tmp_path: Path, train_on: str, overlong: str
) -> None:
    prompt = [
        {"role": "user", "content": "first " + "x" * 60},
        {"role": "assistant", "content": "an answer of the prompt"},
        {"role": "user", "content": "second " + "y" * 60},
    ]
    rows = [{"prompt": prompt, "completion": [{"role": "assistant", "content": "the completion"}]}]
    file = write_lines(tmp_path / "rows.jsonl", [*rows, {"prompt": "short", "completion": "kept"}])
    prepare(model, file, tmp_path / "out", train_on=train_on, overlong=overlong, max_length=160, held_out=0)
    wanted = ["the completion<|im_end|>"] if overlong == "split" else []
    assert trained_texts(tmp_path / "out") == [*wanted, "kept<|im_end|>"]
    reported(tmp_path / "out")


def test_no_window_of_a_text_has_a_single_token(model: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", [{"text": "".join(map(chr, range(40, 120)))}])  # 81 tokens
    prepare(model, file, tmp_path / "out", overlong="split", max_length=10, held_out=0)
    assert [len(row["input_ids"]) for row in load(tmp_path / "out")] == [*[10] * 7, 9, 2]


@pytest.mark.parametrize("overlong", ["split", "truncate"])
def test_a_part_of_a_row_does_not_learn_what_is_held_out(model: Path, tmp_path: Path, overlong: str) -> None:
    first = [{"role": "user", "content": "What is X?"}, {"role": "assistant", "content": "X is 1."}]
    more = [{"role": "user", "content": "And Y? " + "w " * 60}, {"role": "assistant", "content": "Y is 2."}]
    write_lines(tmp_path / "long.jsonl", [{"messages": first + more}, *({"messages": m} for m in LEARNED)])
    write_lines(tmp_path / "test.jsonl", [{"messages": first}])
    sources = {
        "a": {"path": str(tmp_path / "long.jsonl"), "held_out": 0},
        "test": {"path": str(tmp_path / "test.jsonl"), "held_out": "all"},
    }
    prepare(model, None, tmp_path / "out", sources=sources, overlong=overlong, max_length=120)
    assert json.loads(load(tmp_path / "out", "held_out")[0]["messages"]) == first
    assert first not in [json.loads(row["messages"]) for row in load(tmp_path / "out")]
    assert reported(tmp_path / "out")["leaks"] == 1


LEARNED = [[{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "a"}] for i in range(3)]


def test_a_first_answer_that_is_too_long_is_cut_in_a_longer_conversation_too(model: Path, tmp_path: Path) -> None:
    turns = ["Tell me.", "LONG " * 100, "more", "end"]
    roles = ["user", "assistant"] * 2
    messages = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=True)]
    prepare(model, write_lines(tmp_path / "rows.jsonl", [{"messages": messages}]), tmp_path / "out",
            overlong="truncate", max_length=300, held_out=0)  # fmt: skip
    (row,) = load(tmp_path / "out")
    assert len(row["input_ids"]) == 300
    assert [message["role"] for message in json.loads(row["messages"])] == ["user", "assistant"]


def test_a_source_of_one_row_is_learned(model: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "one.jsonl", questions(1))
    write_lines(tmp_path / "many.jsonl", [{"question": f"q{i}", "answer": "a"} for i in range(20)])
    sources = {name: {"path": str(tmp_path / f"{name}.jsonl")} for name in ("one", "many")}
    prepare(model, None, tmp_path / "out", sources=sources)
    assert reported(tmp_path / "out")["sources"]["one"]["rows"]["train"] == 1


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
    assert counts["dropped"] == ({"duplicate": duplicates} if duplicates else {})
    for row in load(tmp_path / "out") + load(tmp_path / "out", "held_out"):
        messages = json.loads(row["messages"])
        assert row["input_ids"] == tokenizer().apply_chat_template(messages, return_dict=False)
        prompt = tokenizer().apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
        assert row["input_ids"][: row["prompt_length"]] == prompt
        trained = [label for label in row["labels"] if label != -100]
        assert tokenizer().decode(trained) == messages[-1]["content"] + "<|im_end|>"
        assert row["labels"][: row["prompt_length"]] == [-100] * len(prompt)


@needs_shared
@pytest.mark.parametrize(
    ("name", "found", "read"),
    [
        ("gsm8k_test.jsonl", "qa", 1319),
        ("alpaca_en_demo.json", "alpaca", 999),
        ("identity.json", "alpaca", 91),
        ("glaive_toolcall_en_demo.json", "conversations", 300),
        ("c4_demo.jsonl", "text", 300),
        ("dpo_en_demo.json", "preference", 300),
        ("sage_docs", "docs", 6123),
        pytest.param("gsm8k_train.jsonl", "qa", 7473, marks=pytest.mark.slow),
    ],
)
def test_public_data_is_recognised_and_adds_up(tmp_path: Path, name: str, found: str, read: int) -> None:
    """Without a word of configuration, with the embedded model."""
    config = Config()
    config.model.name, config.data.path = "embedded:tiny", str(SHARED / "data" / name)
    (tmp_path / "out").mkdir()
    Prepare().execute(config, {}, tmp_path / "out", Reports())
    report = reported(tmp_path / "out")
    assert report["rows"]["read"] == read
    assert report["sources"][name]["formats"] == {found: read}
    kinds = {warning["kind"] for warning in report["warnings"]}
    assert ("placeholder" in kinds) == (name in ("identity.json", "sage_docs"))
    assert ("preference" in kinds) == (name == "dpo_en_demo.json")
