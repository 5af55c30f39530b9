"""A run keeps the recipe that it began with, and says which commit that was."""

import subprocess
from pathlib import Path

import pytest

from sft_runner import load, planning
from sft_runner.config import sources
from sft_runner.recipe import FILE
from sft_runner.report import recipe as shown
from sft_runner.report.record import read
from sft_runner.runs import RunFolder

TEXT = "# goal: my own\r\ndefaults: [quickstart, _self_]\nlora: {r: 4}  # é\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a recipe."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_bytes(TEXT.encode())
    return tmp_path


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "commit.gpgsign=false"]
    ended = subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True)
    return ended.stdout.strip()


def committed(folder: Path) -> str:
    git(folder, "init", "--quiet")
    git(folder, "add", "recipes")
    git(folder, "commit", "--quiet", "--message", "mine")
    return git(folder, "rev-parse", "HEAD")


def begun(*words: str) -> RunFolder:
    return RunFolder(planning.plan(load(*words, "hardware=cpu", "tracking=none")))


def test_what_was_composed_is_kept(folder: Path) -> None:
    commit = committed(folder)
    plan = planning.plan(load("recipe=mine", "hardware=cpu", "tracking=none"))
    (folder / "recipes" / "mine.yaml").write_text("lora: {r: 64}\n")  # while the data is fetched
    run = RunFolder(plan)
    assert (run.path / FILE).read_bytes() == TEXT.encode()
    assert run.state["recipe"] == {"file": "recipes/mine.yaml", "commit": commit, "changed": True}
    (folder / "recipes" / "mine.yaml").unlink()
    assert shown.text(read(run.path)) == ("recipes/mine.yaml", TEXT.replace("\r\n", "\n"))
    assert shown.commit(read(run.path)) == f"{commit} + uncommitted changes"


def test_a_clean_repository(folder: Path) -> None:
    commit = committed(folder)
    (folder / "notes.txt").write_text("not tracked, and not the recipe")
    run = begun("recipe=mine")
    assert run.state["recipe"] == {"file": "recipes/mine.yaml", "commit": commit, "changed": False}
    assert shown.commit(read(run.path)) == commit


def test_a_recipe_that_was_never_committed(folder: Path) -> None:
    git(folder, "init", "--quiet")
    assert begun("recipe=mine").state["recipe"]["commit"] is None
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "empty")
    assert begun("recipe=mine").state["recipe"]["changed"] is True


def test_a_shipped_recipe_is_of_the_working_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = committed(folder)
    monkeypatch.setattr(sources, "PACKAGE", sources.PACKAGE.parents[1])  # as in a wheel: recipes lie in the package
    asked = begun("recipe=quickstart").state["recipe"]
    assert (asked["commit"], asked["changed"]) == (commit, False)


def test_without_git_and_without_a_recipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    run = begun("recipe=mine")
    assert run.state["recipe"] == {"file": "recipes/mine.yaml", "commit": None, "changed": False}
    assert shown.commit(read(run.path)) == ""
    (folder / "rows.jsonl").write_text("".join(f'{{"question": "What is {i}?", "answer": "{i}"}}\n' for i in range(9)))
    run = begun("name=none", "data.path=rows.jsonl", "model=tiny")
    assert run.state["recipe"] is None
    assert not (run.path / FILE).exists()
    assert (shown.text(read(run.path)), shown.commit(read(run.path))) == (("", ""), "")
