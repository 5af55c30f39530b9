"""Every command in the documentation is one that works."""

import re
import shlex
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
    return sorted(set(found))


def test_there_are_commands() -> None:
    assert "python -m sft_runner recipe=quickstart" in commands()
    assert len(commands()) > 6


@pytest.mark.parametrize("command", commands())
def test_a_documented_command_plans(command: str, tmp_path: Path) -> None:
    (tmp_path / "my.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "2"}\n')
    (tmp_path / "code.py").write_text(
        'def double(x):\n    """Twice the number that is given."""\n    y = x\n    y += x\n    return y\n'
    )
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "guide.md").write_text("# Guide\n\n" + "What the program does is told here. " * 3)
    words = shlex.split(command)
    words = words[3:] if words[0] == "python" else words[1:]
    if any("=" in word for word in words):
        words.append("dry_run=true")
    ended = sft(*words, cwd=tmp_path)
    assert ended.code == 0, ended.said
