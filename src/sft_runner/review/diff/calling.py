"""How git is asked: it answers in English, takes no lock, asks nobody, and starts no program of the repository."""

import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO

from sft_runner import git
from sft_runner.errors import UserError

COMMAND = (*git.COMMAND, "-c", "core.quotePath=false")
_QUIET = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "LC_ALL": "C",  # messages are matched, and shown
}
Ended = subprocess.CompletedProcess[bytes]
"""What git said."""


def ask(folder: Path, *words: str, more: Mapping[str, str] = MappingProxyType({}), text: bytes = b"") -> Ended:
    """Run git with `text` as its input. Raises `UserError` where there is no git. `more` are variables."""
    command = [*COMMAND, *words]
    try:
        return subprocess.run(
            command, cwd=folder, env={**environment(), **more}, input=text, capture_output=True, check=False
        )
    except FileNotFoundError:
        raise UserError("git is not on this machine", "install git; diff compares with a commit") from None


def begun(folder: Path, *words: str, asked: IO[bytes]) -> "subprocess.Popen[bytes]":
    """Start git, which reads a file."""
    return subprocess.Popen([*COMMAND, *words], cwd=folder, env=environment(), stdin=asked, stdout=subprocess.PIPE)


def environment() -> dict[str, str]:
    """The variables that git runs with."""
    return git.environment() | _QUIET


def checked(command: str, ended: Ended, hint: str = "git itself says why") -> bytes:
    """What git said. Raises `UserError` where it failed."""
    if ended.returncode:
        raise UserError(f"git {command}: {complaint(ended)}", hint)
    return ended.stdout


def complaint(ended: Ended) -> str:
    """The first line of what git complains of."""
    lines = ended.stderr.decode(errors="replace").strip().splitlines()
    return (lines[0] if lines else f"exit code {ended.returncode}").removeprefix("fatal: ")


def without_filters(folders: Iterable[Path]) -> dict[str, str]:
    """Variables with which no filter program of these repositories runs: git would start those of changed files to
    compare them."""
    words = ("config", "--null", "--name-only", "--get-regexp", r"^filter\..*\.(clean|process|required)$")
    names = [name for folder in folders for name in os.fsdecode(ask(folder, *words).stdout).split("\0")[:-1]]
    found: dict[str, str] = {}
    said = [(name, "false" if name.endswith(".required") else "") for name in dict.fromkeys(names)]
    for number, (name, value) in enumerate(said, int(os.environ.get("GIT_CONFIG_COUNT") or 0)):
        found |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
        found["GIT_CONFIG_COUNT"] = str(number + 1)
    return found
