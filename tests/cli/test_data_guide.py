"""docs/data.md is true: its rows are recognised, its commands run, its recipe plans."""

import json
import re
import shlex
from pathlib import Path

import pytest

from command import sft
from sft_runner.config.schema import FORMATS
from sft_runner.data import formats
from sft_runner.data.row import Row
from sft_runner.data.sources import Source

GUIDE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
ROWS = dict(re.findall(r"^\| `(\w+)` \| `(\{.+?\})`(?: *\||[;,:] )", GUIDE, re.MULTILINE))
COMMANDS = re.findall(r"^sft-runner (.+)$", GUIDE, re.MULTILINE)
RECIPE = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder with the files that the guide speaks of."""
    (tmp_path / "my.jsonl").write_text(
        "".join(json.dumps({"question": f"What is {i} + 1?", "answer": f"{i + 1}"}) + "\n" for i in range(30))
    )
    (tmp_path / "books.csv").write_text("title,author\nFaust,Goethe\nEmma,Austen\n")
    (tmp_path / "handbook").mkdir()
    for name in ("install", "use"):
        text = f"How to {name} the program is told here, in more than fifty characters.\n"
        (tmp_path / "handbook" / f"{name}.md").write_text(f"# The {name} guide\n\n{text}\n## More\n\nAgain: {text}")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "code.py").write_text(
        'def double(x):\n    """Twice the number that is given."""\n    y = x\n    y += x\n    return y\n'
    )
    return tmp_path


def test_every_format_has_a_row() -> None:
    assert {*ROWS, "docs", "python"} == set(FORMATS)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_row_is_recognised(name: str) -> None:
    row = Row(json.loads(ROWS[name]), "guide.jsonl", 1)
    found = formats.choose(Source("guide", "guide.jsonl"), row)
    assert found.name == name
    assert formats.reason_to_drop(found.example(row)) is None


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs(command: str, folder: Path) -> None:
    ended = sft(*shlex.split(command), cwd=folder)
    assert ended.code == 0, ended.said
    assert "⟦" in ended.out


def test_the_first_row_is_shown_as_the_guide_says(folder: Path) -> None:
    (folder / "my.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "2"}\n')
    ended = sft(*shlex.split(COMMANDS[0]), cwd=folder)
    shown = re.findall(r"```\n(my\.jsonl:1.*?)```", GUIDE, re.DOTALL)[0]
    assert [line.rstrip() for line in ended.out.splitlines()[: len(shown.splitlines())]] == shown.splitlines()


def test_the_recipe_plans(folder: Path) -> None:
    (folder / "recipes").mkdir()
    (folder / "recipes" / "mine.yaml").write_text(RECIPE)
    ended = sft("recipe=mine", "dry_run=true", cwd=folder)
    assert ended.code == 0, ended.said
