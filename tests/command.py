"""Running the program as a user does, in a folder of its own."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forked
from sft_runner.disk import read_json


@dataclass
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def said(self) -> str:
        """Everything on the screen."""
        return self.out + self.err


def sft(*words: str, cwd: Path, timeout: float = 600, **environment: str) -> Ended:
    """`python -m sft_runner WORDS` in the folder `cwd`, from an interpreter that waits; see `forked`."""
    if environment:  # some of it counts when Python starts or libraries are imported
        return fresh(*words, cwd=cwd, timeout=timeout, **environment)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        code = forked.server().run(list(words), cwd, out, err, timeout)
        return Ended(code, out.read_text(), err.read_text(), time.perf_counter() - began)


def fresh(*words: str, cwd: Path, timeout: float = 600, **environment: str) -> Ended:
    """The same from a new interpreter, with more in its environment."""
    began = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-m", "sft_runner", *words],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr, time.perf_counter() - began)


def start(*words: str, cwd: Path) -> "subprocess.Popen[str]":
    """The same in the background, in a process group of its own; its screen goes to `screen.log`."""
    with open(cwd / "screen.log", "a") as screen:
        return subprocess.Popen(
            [sys.executable, "-m", "sft_runner", *words],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=screen,
            stderr=screen,
            start_new_session=True,
            text=True,
        )


SMALL = [
    "recipe=quickstart",
    "hardware=cpu",
    "data.limit=80",
    "data.held_out=8",
    "train.max_steps=4",
    "train.batch_size=8",
    "evaluate.limit=8",
]
"""The quickstart with so few rows and steps that the whole chain takes well under a minute."""


def actions(screen: str) -> dict[str, str]:
    """Stage -> action, from the plan on the screen."""
    found = {}
    for line in screen.splitlines():
        words = line.split()
        if len(words) > 2 and words[1] in ("run", "cached", "resume"):
            found[words[0]] = words[1]
    return found


def manifest(folder: Path, stage: str) -> dict[str, Any]:
    """The one manifest of a stage below `folder/outputs`."""
    (path,) = (folder / "outputs" / "stages" / stage).glob("*/manifest.json")
    found = read_json(path)
    assert isinstance(found, dict)
    return found
