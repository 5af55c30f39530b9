"""`evaluate.sets`: what may be said of one, the rows that are made of it, and what a person is told of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from random_models import Reports
from sft_runner import load, plan
from sft_runner.config import sources
from sft_runner.config.schema import Config, Model
from sft_runner.data import sets
from sft_runner.disk import read_json
from sft_runner.errors import DataError, UserError
from sft_runner.model.rows import all_rows
from sft_runner.stages.prepare import Prepare

QA = [{"question": f"What is {i} + {i}?", "answer": f"It is {2 * i}."} for i in range(6)]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    sources.forget()


def write(path: str, rows: list[Any]) -> str:
    Path(path).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def config(found: dict[str, Any], **data: Any) -> Config:
    made = Config(model=Model(name="embedded:tiny"))
    made.data.path, made.data.held_out, made.data.max_length = write("train.jsonl", QA), 0.0, 256
    for key, value in data.items():
        setattr(made.data, key, value)
    made.evaluate.sets = found
    return made


def made(found: dict[str, Any], **data: Any) -> tuple[dict[str, Path], Path]:
    """The files of the sets, and the folder."""
    folder = Path("baseline")
    folder.mkdir()
    return sets.write(config(found, **data), folder, Reports()), folder


def test_rows_of_a_set_are_the_tokens_that_training_would_make(tmp_path: Path) -> None:
    other = write("other.jsonl", QA)
    files, _ = made({"general": {"path": other}})
    Prepare().execute(config({}), {}, tmp_path, Reports())
    scored, learned = all_rows(files["general"]), all_rows(tmp_path / "train.arrow")
    assert scored.column_names == learned.column_names
    for column in ("input_ids", "labels", "messages", "prompt_length"):
        assert sorted(map(str, scored[column])) == sorted(map(str, learned[column]))
    assert set(scored["origin"]) == {"general"}
    assert set(scored["kind"]) == {""}
    assert list(scored["source"])[0] == "other.jsonl:1"


def test_each_set_has_its_own_words() -> None:
    texts = write("texts.jsonl", [{"body": "Once upon a time."}, {"body": "In a hole in the ground."}])
    files, folder = made(
        {
            "b": {"path": write("b.jsonl", QA), "limit": 2},
            "a": {"path": texts, "format": "text", "columns": {"text": "body"}},
        }
    )
    assert list(files) == ["a", "b"]
    assert {name: len(all_rows(file)) for name, file in files.items()} == {"a": 2, "b": 2}
    assert sets.written(folder) == files
    assert sets.written(Path("nowhere")) == {}


def test_without_a_limit_there_are_two_hundred_and_null_takes_all() -> None:
    many = write("many.jsonl", [{"question": f"{i}?", "answer": "yes"} for i in range(250)])
    files, _ = made({"few": {"path": many}, "all": {"path": many, "limit": None}})
    assert {name: len(all_rows(file)) for name, file in files.items()} == {"few": 200, "all": 250}


def test_long_rows_are_left_out_and_told_whatever_happens_to_those_of_training() -> None:
    long = {"question": "Go on?", "answer": "on and " * 400}
    Path("prepare").mkdir()
    Prepare().execute(config({}), {}, Path("prepare"), Reports())
    for overlong in ("truncate", "error", "split"):
        Path("baseline").mkdir()
        found = config({"general": {"path": write("other.jsonl", [QA[0], long])}}, overlong=overlong)
        files = sets.write(found, Path("baseline"), Reports())
        assert len(all_rows(files["general"])) == 1
        told = sets.notes(Path("baseline"), Path("prepare"))
        assert told[:1] == ["evaluate.sets.general: 1 of 2 rows are not scored: 1 overlong"]
        Path("baseline").rename(f"baseline-{overlong}")
    account = read_json(Path("baseline-error/sets.json"))
    assert account["general"] == {
        "path": "other.jsonl",
        "read": 2,
        "used": 1,
        "added": 0,
        "dropped": {"overlong": 1},
    }


def test_prompts_that_are_learned_too_are_told(tmp_path: Path) -> None:
    fresh = {"question": "Where is Ångström?", "answer": "日本"}
    changed = {**QA[1], "answer": "Something else."}
    _, folder = made({"general": {"path": write("other.jsonl", [QA[0], changed, fresh])}})
    (tmp_path / "prepare").mkdir()
    Prepare().execute(config({}), {}, tmp_path / "prepare", Reports())
    (told,) = sets.notes(folder, tmp_path / "prepare")
    assert told.startswith("evaluate.sets.general: the prompts of 2 of 3 rows are learned too")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"question": "", "answer": ""}], "none of 1 rows can be scored: 1 empty_prompt"),
        ([{"colour": "red"}], "evaluate.sets.general: "),
        ([], "other.jsonl is empty"),
    ],
)
def test_a_set_without_rows_names_itself(rows: list[Any], says: str) -> None:
    with pytest.raises(DataError) as caught:
        made({"general": {"path": write("other.jsonl", rows)}})
    assert caught.value.message.startswith("evaluate.sets.general")
    assert says in caught.value.message


def test_no_sets_write_nothing() -> None:
    files, folder = made({})
    assert files == {}
    assert not list(folder.iterdir())
    assert sets.notes(folder, Path("nowhere")) == []
    assert sets.told(config({})) == []


def refused(*words: str) -> str:
    with pytest.raises(UserError) as caught:
        plan(load("recipe=quickstart", "hardware=cpu", "tracking=none", "output_dir=out", *words))
    return caught.value.show()


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("general: {path: nowhere.jsonl}", ["evaluate.sets.general: there is no file or folder nowhere.jsonl"]),
        ("general: {path: othr.jsonl}", ["did you mean 'other.jsonl'?"]),
        ("general: {format: qa}", ["evaluate.sets.general.path: not set"]),
        ("general: other.jsonl", ["evaluate.sets.general: 'other.jsonl' is no mapping", "path: my.jsonl"]),
        ("general: {path: other.jsonl, lmit: 3}", ["evaluate.sets.general.lmit", "evaluate.sets.general.limit"]),
        ("general: {path: other.jsonl, limit: 0}", ["evaluate.sets.general.limit: 0 is not"]),
        ("general: {path: other.jsonl, format: qaa}", ["evaluate.sets.general.format: 'qaa'", "'qa'"]),
        ("general: {path: other.jsonl, weight: 2}", ["evaluate.sets.general.weight", "never learned"]),
        ("general: {path: other.jsonl, cap: 2}", ["evaluate.sets.general.cap", "limit"]),
        ("general: {path: other.jsonl, held_out: 2}", ["evaluate.sets.general.held_out"]),
        ("loss: {path: other.jsonl}", ["evaluate.sets.loss: a metric has this name"]),
        ("exact_match: {path: other.jsonl}", ["a metric has this name"]),
        ("unseen: {path: other.jsonl}", ["a kind of held-out rows has this name"]),
        ("benchmarks: {path: other.jsonl}", ["a part of the scores has this name"]),
        ("a.b: {path: other.jsonl}", ["evaluate.sets.a.b: it cannot name a file"]),
        ("../x: {path: other.jsonl}", ["evaluate.sets.../x: it cannot name a file"]),
        ("general: {path: bad.jsonl}", ["evaluate.sets.general: bad.jsonl, line 2"]),
    ],
)
def test_mistakes_are_told_before_anything_runs(entry: str, says: list[str]) -> None:
    write("other.jsonl", QA)
    Path("bad.jsonl").write_text(json.dumps(QA[0]) + "\n{oops\n")
    said = refused(f"evaluate.sets={{{entry}}}")
    for text in says:
        assert text in said
    assert not Path("out").exists()


def test_a_set_is_no_source() -> None:
    write("other.jsonl", QA)
    words = ["data.path=null", "data.sources={mine: {path: other.jsonl}}", "evaluate.sets={mine: {path: other.jsonl}}"]
    assert "evaluate.sets.mine: an entry of data.sources has this name" in refused(*words)


def test_a_mistake_of_a_recipe_has_its_line() -> None:
    Path("recipes").mkdir()
    text = "defaults: [quickstart, _self_]\nevaluate:\n  sets:\n    general:\n      path: x\n      weight: 3\n"
    Path("recipes/mine.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        load("recipe=mine", "hardware=cpu")
    assert caught.value.show().startswith("recipes/mine.yaml, line 6: evaluate.sets.general.weight")


def test_only_the_stages_that_score_depend_on_a_set() -> None:
    """Its bytes, its format and its being there count for baseline and evaluate; its place counts for none."""

    def fingerprints(*words: str) -> dict[str, str]:
        run = load("recipe=quickstart", "hardware=cpu", "tracking=none", "output_dir=out", *words)
        return {step.stage: step.fingerprint for step in plan(run).steps}

    def differing(*words: str) -> set[str]:
        found = fingerprints(*words)
        return {stage for stage, fingerprint in found.items() if fingerprint != first[stage]}

    write("other.jsonl", QA)
    first = fingerprints("evaluate.sets.general={path: other.jsonl}")
    Path("elsewhere").mkdir()
    write("elsewhere/other.jsonl", QA)
    assert differing("evaluate.sets.general={path: elsewhere/other.jsonl}") == set()
    assert differing() == {"baseline", "evaluate"}
    assert differing("evaluate.sets.general={path: other.jsonl, limit: 3}") == {"baseline", "evaluate"}
    write("other.jsonl", QA[1:])
    assert differing("evaluate.sets.general={path: other.jsonl}") == {"baseline", "evaluate"}


def test_without_held_out_rows_sets_are_no_way_out(tmp_path: Path) -> None:
    words = ("recipe=quickstart", "hardware=cpu", "tracking=none", f"output_dir={tmp_path}", "data.held_out=0")
    with pytest.raises(UserError) as caught:
        plan(load(*words, "evaluate.sets={general: {path: 'embedded:dates'}}"))
    assert "evaluate.sets are scored beside held-out rows" in caught.value.hint
    with pytest.raises(UserError) as caught:
        plan(load(*words))
    assert "evaluate.sets" not in caught.value.hint
