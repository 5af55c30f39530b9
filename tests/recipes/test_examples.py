"""Every shipped recipe can be tried with data that ships, is locked for the embedded model, and was measured."""

import ast
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from command import sft
from sft_runner import load, plan
from sft_runner.commands import command
from sft_runner.config import sources
from sft_runner.disk import read_json
from sft_runner.errors import DataError
from sft_runner.fingerprint import Hashes
from sft_runner.report.record import find
from sft_runner.review.lock import file as locks
from sft_runner.review.record.header import OPEN
from sft_runner.review.record.table import Row, read, results_of, stale

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "recipes" / "examples"
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
OWN = [name for name in RECIPES if name != "quickstart"]
"""Recipes for the user's own data; the quick start has its data named in it."""
NUMBER = r"[-\d.]+"
RESULT = re.compile(rf"(.+?) ({NUMBER}(?: %)?) -> ({NUMBER}(?: %)?) on ([\d,]+) held-out rows, .+results\.md\)$")
SCORE = re.compile(rf"(.+?) ({NUMBER}(?: %)?) → ({NUMBER}(?: %)?)[ ;]")
"""A result as a header says it, and as a row does."""
LOSS = re.compile(rf"({NUMBER}) → ({NUMBER}) \(({NUMBER}) to ({NUMBER})\); gain")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the source checkout."""
    monkeypatch.chdir(ROOT)
    sources.forget()


def recorded(recipe: str) -> Row:
    """The newest row of a shipped recipe."""
    return read(results_of(ROOT / "recipes" / f"{recipe}.yaml"))[0]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_examples", ROOT / "scripts" / "make_examples.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("recipe", OWN)
def test_each_recipe_has_its_example(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the folder is that one is in: as in one with an installed wheel, there is no `./recipes`."""
    monkeypatch.chdir(tmp_path)
    sources.forget()
    made = plan(load(f"recipe={recipe}", "hardware=cpu", "model=tiny", f"data.path=embedded:{recipe}"))
    assert made.steps[-1].stage == "serve"
    assert not made.run.warnings


def test_a_misspelt_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="no embedded data set 'cod'") as caught:
        plan(load("recipe=code", "hardware=cpu", "model=tiny", "data.path=embedded:cod"))
    assert caught.value.hint == "did you mean 'code'?"


def test_the_rows_are_those_of_the_script() -> None:
    made = script()
    assert {f"{name}.jsonl" for name in made.ROWS} == {path.name for path in EXAMPLES.glob("*.jsonl")}
    for name in made.ROWS:
        lines = (EXAMPLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line) for line in lines] == made.rows(name)
        assert 60 <= len(lines) == len(set(lines)) <= 120


def test_they_are_small_and_whole() -> None:
    files = [path for path in EXAMPLES.rglob("*.*") if "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 40_000
    assert {path.suffix for path in files} == {".jsonl", ".md", ".py"}
    for path in EXAMPLES.glob("code/*.py"):
        functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        assert len(functions) >= 5
        assert all(ast.get_docstring(function) for function in functions)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.usefixtures("here")
def test_each_recipe_is_locked_and_recorded_alike(recipe: str) -> None:
    lock = locks.read(recipe)
    assert lock is not None
    row = recorded(recipe)
    assert {*row.words} == {"hardware=cpu", *lock.presets["cpu"].words}
    assert row.fingerprint == lock.presets["cpu"].stages["evaluate"]
    assert row.cells["gates"].startswith("passed")
    assert "**" not in row.cells["commit"]
    assert OPEN not in sources.recipes()[recipe].header["result"]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.usefixtures("here")
def test_each_header_says_what_was_measured(recipe: str) -> None:
    """The same scores, from the base's to the tuned model's, on as many rows; times may be another run's."""
    row = recorded(recipe)
    told = RESULT.match(sources.recipes()[recipe].header["result"])
    assert told, "sft-runner record RUN --header writes it"
    metric, score = ("loss ", row.cells["loss"]) if told[1] == "loss" else ("", row.cells["score"])
    measured = SCORE.match(metric + score)
    assert measured
    assert told.groups()[:3] == measured.groups()
    assert told[4] == row.cells["rows"]


@pytest.mark.usefixtures("here")
def test_no_record_is_stale(tmp_path: Path) -> None:
    hashes = Hashes(tmp_path / "hashes.json")
    assert {name: list(stale(name, hashes)) for name in RECIPES} == {name: [] for name in RECIPES}


@pytest.mark.usefixtures("here")
def test_no_lock_has_drifted(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("lock")(["--check", *RECIPES, "--ignore", "libraries"]) == 0, capsys.readouterr()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["custom", "docs"])
def test_the_record_is_what_comes_of_it(recipe: str, tmp_path: Path) -> None:
    """The fingerprint is the same, and the loss within what the record says of other draws of rows."""
    row = recorded(recipe)
    words = (f"recipe={recipe}", *row.words, "stage=evaluate", "tracking=[]")
    ended = sft(*words, cwd=tmp_path)
    assert ended.code == 0, ended.said
    run = find(recipe, tmp_path / "outputs")
    assert run.known["stages"]["evaluate"] == row.fingerprint
    match = LOSS.match(row.cells["loss"])
    assert match, row.cells["loss"]
    base, tuned, low, high = map(float, match.groups())
    assert run.scores["base"]["loss"] == pytest.approx(base, rel=1e-3)
    assert low <= run.scores["tuned"]["loss"] <= high
    assert tuned < base
    assert (read_json(run.folder / "run.json") or {})["fit_to_serve"] is True
