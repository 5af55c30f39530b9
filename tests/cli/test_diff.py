"""`sft-runner diff` in a checkout of the program itself: each side is resolved by its own code."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from command import Ended, sft

ROOT = Path(__file__).parents[2]
SOURCE = Path("src/sft_runner")
ABSENT = "data: my.jsonl is not here: rows, steps and time are not told"


def git(folder: Path, *words: str) -> str:
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *author, *words], cwd=folder, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    ).stdout


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "a change")


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this source tree with two recipes, committed once."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / SOURCE, folder / SOURCE)  # compiled modules too: they need not be compiled again
    shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    (folder / "recipes").mkdir()
    for name in ("quickstart", "qa"):
        shutil.copy(ROOT / "recipes" / f"{name}.yaml", folder / "recipes")
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / ".gitignore").write_text("__pycache__/\noutputs/\n")
    git(folder, "init", "-q", "-b", "main")
    commit(folder)
    return folder


@pytest.fixture
def checkout(committed: Path) -> Path:
    git(committed, "reset", "-q", "--hard", "main")
    git(committed, "clean", "-qfd")
    git(committed, "switch", "-q", "-C", "topic", "main")
    return committed


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, path
    path.write_text(text.replace(old, new))


def diff(folder: Path, *words: str) -> tuple[Ended, dict[str, Any]]:
    """The command with the code of the checkout; byte code is told old by the second, and a test changes it faster."""
    own = {"PYTHONPATH": str(folder / "src"), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    ended = sft("diff", *words, "--json", cwd=folder, **own)
    assert ended.code in (0, 2), ended.said
    return ended, json.loads(ended.out)


def test_what_changes_in_the_code(checkout: Path) -> None:
    """A default, the version of a stage, what a stage reads, and the name of a key."""
    source = checkout / SOURCE
    replaced(source / "config/schema.py", "lora_dropout: float = setting(0.0,", "lora_dropout: float = setting(0.05,")
    replaced(source / "stages/merge.py", "    version = 2", "    version = 3")
    replaced(source / "stages/serve.py", '("serve", "hardware.dtype")', '("serve", "hardware.dtype", "lora.r")')
    replaced(source / "config/schema_train.py", "    seed: int = 42", "    random_seed: int = 42")
    for path in source.rglob("*.py"):
        if "train.seed" in (text := path.read_text()):
            path.write_text(text.replace("train.seed", "train.random_seed"))
    ended, found = diff(checkout)
    assert (ended.code, found["notes"]) == (2, [ABSENT]), found
    assert {change["case"] for change in found["changes"]} == {"qa", "quickstart"}
    for change in found["changes"]:
        assert {value["key"]: (value["old"], value["new"]) for value in change["values"]} == {
            "lora.lora_dropout": ("0.0", "0.05"),
            "train.seed": ("42", None),
            "train.random_seed": (None, "42"),
        }
        files = {value["key"]: value["new_place"].partition(", line ")[0] for value in change["values"]}
        assert files["lora.lora_dropout"] == "src/sft_runner/config/schema.py"
        assert files["train.random_seed"] == "src/sft_runner/config/schema_train.py"
        assert {again["stage"]: again["why"] for again in change["stages"]} == {
            "train": "lora.lora_dropout 0.0 → 0.05, train.random_seed – → 42, train.seed 42 → –",
            "merge": "version 2 → 3",
            "evaluate": "because train runs",
            "serve": "lora.r counts too",
        }


def test_code_that_has_no_diff_yet(checkout: Path) -> None:
    shutil.rmtree(checkout / SOURCE / "review/diff")
    commit(checkout)
    git(checkout, "checkout", "-q", "main", "--", "src")
    replaced(checkout / "recipes/quickstart.yaml", "batch_size: 16", "batch_size: 8")
    _, found = diff(checkout, "HEAD")
    assert [[value["key"] for value in change["values"]] for change in found["changes"]] == [["train.batch_size"]]
    assert found["notes"] == ["the code of the old side has no diff yet: today's code resolves both sides", ABSENT]


def test_code_that_is_broken_on_the_old_side(checkout: Path) -> None:
    (checkout / SOURCE / "review/diff/conversation.py").write_text("import nothing_of_this_name\n")
    commit(checkout)
    git(checkout, "checkout", "-q", "main", "--", "src")
    replaced(checkout / "conf/method/lora.yaml", "adapter: lora", "adapter: lora\nlora: {r: 4}")
    ended, found = diff(checkout, "HEAD", "--recipe", "quickstart")
    assert ended.code == 2
    assert [value["key"] for value in found["changes"][0]["values"]] == ["lora.r", "lora.lora_alpha"]
    assert "No module named 'nothing_of_this_name'" in found["notes"][0]


def test_the_screen(tmp_path: Path) -> None:
    ended = sft("diff", cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"error: there is no git repository around {tmp_path}\n  ")
    git(tmp_path, "init", "-q")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/mine.yaml").write_text("defaults:\n  - override /model: tiny\n  - override /data: dates\n")
    commit(tmp_path)
    (tmp_path / "recipes/mine.yaml").write_text("data: [\n")
    ended = sft("diff", "HEAD", cwd=tmp_path)
    assert ended.code == 2
    assert "mine  (cannot run any more)\n  after: recipes/mine.yaml, line 2: not valid YAML" in ended.out
    ended = sft("diff", "--help", cwd=tmp_path)
    assert ended.code == 0
    assert "sft-runner diff HEAD hardware=rtx3060 method=dora" in ended.out


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/mine.yaml").write_text("defaults:\n  - override /model: tiny\n  - override /data: dates\n")
    commit(tmp_path)
    (tmp_path / "recipes/mine.yaml").write_text("lora: {r: 2}\ndata: {path: embedded:dates}\n")
    place = tmp_path / "passing"
    place.mkdir()
    ended = sft("diff", "HEAD", cwd=tmp_path, TMPDIR=str(place))
    assert ended.code == 2, ended.said
    assert os.listdir(place) == []
    assert git(tmp_path, "worktree", "list").count("\n") == 1
