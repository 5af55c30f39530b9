"""Every command in the documentation is one that works."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from command import sft

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", "docs/serving.md", "outputs/README.md"]


def commands() -> list[str]:
    """The `python -m sft_runner` and `sft-runner` lines of the documents."""
    found = []
    for name in DOCUMENTS:
        text = (ROOT / name).read_text()
        found += re.findall(r"^\s*((?:python -m sft_runner|sft-runner) [^`\n#]*?)\s*(?:#.*)?$", text, re.MULTILINE)
        found += re.findall(r"`(sft-runner [^`]+)`", text)
    return sorted(command for command in set(found) if "RUN" not in command.split())  # of a run that there is


def test_there_are_commands() -> None:
    assert "python -m sft_runner recipe=quickstart" in commands()
    assert len(commands()) > 6


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder as the documents suppose it: data, code, a file of another tool and a recipe, under git."""
    (tmp_path / "my.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "2"}\n')
    (tmp_path / "code.py").write_text(
        'def double(x):\n    """Twice the number that is given."""\n    y = x\n    y += x\n    return y\n'
    )
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "guide.md").write_text("# Guide\n\n" + "What the program does is told here. " * 3)
    shutil.copy(ROOT / "tests/importing/axolotl_qlora.yml", tmp_path / "qlora.yml")
    (tmp_path / "recipes").mkdir()
    recipe = (ROOT / "recipes/quickstart.yaml").read_text()
    (tmp_path / "recipes/mine.yaml").write_text(recipe.replace("recipe=quickstart", "recipe=mine"))
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "begin"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.parametrize("command", commands())
def test_a_documented_command_plans(command: str, project: Path) -> None:
    words = shlex.split(command)
    words = words[3:] if words[0] == "python" else words[1:]
    if any("=" in word for word in words):
        words.append("dry_run=true")
    ended = sft(*words, cwd=project)
    assert ended.code == 0, ended.said
