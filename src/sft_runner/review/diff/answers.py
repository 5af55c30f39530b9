"""Two sides, looked at at the same time, each by the code that belongs to it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sft_runner.config.sources import PACKAGE
from sft_runner.errors import StageFailed
from sft_runner.review.diff import side
from sft_runner.review.diff.side import VERSION, Request

FEW = 24
"""Up to so many cases both sides are looked at in this process: starting another one takes longer."""
_SIDE = "review/diff/side.py"
Answer = dict[str, Any]
"""What `side.look` returns."""


@dataclass(frozen=True)
class Place:
    """Where one side is."""

    root: Path
    """What stands for `/`."""
    top: Path
    """What stands for the repository."""
    folder: Path
    """What stands for the current folder."""
    package: Path
    """The code that looks at it."""


def answers(places: list[Place], request: Request, notes: list[str]) -> list[Answer]:
    """What each side is, in words that name no passing folder. Raises `StageFailed` where the code of today fails.

    `notes` is told what a person should know.
    """
    old, new = places
    own = old.package != PACKAGE
    count = len(list((new.folder / "recipes").glob("*.yaml"))) if request.only is None else len(request.only)
    if own and not (old.package / _SIDE).is_file():
        notes.append("the code of the old side has no diff yet: today's code resolves both sides")
        _take_code(old, new)
    if not own and count * (1 + len(request.presets)) <= FEW:
        return [_cleaned(_here(place, request), place) for place in places]
    with _begun(old, request) as asked:
        second = _elsewhere(new, request) if own else _here(new, request)
        first, failed = _ended(asked)
    if first is None and own and old.package.resolve() != new.package.resolve():
        notes.append(f"the code of the old side cannot be asked ({failed}): today's code resolves both sides")
        _take_code(old, new)
        first = _elsewhere(old, request)
    if first is None:
        raise StageFailed(f"the old side cannot be looked at: {failed}")
    return [_cleaned(first, old), _cleaned(second, new)]


def _take_code(old: Place, new: Place) -> None:
    """Let today's code look at the old tree."""
    if not old.package.parent.is_symlink():
        if old.package.is_symlink():
            old.package.unlink()
        elif old.package.is_dir():
            shutil.rmtree(old.package)
        old.package.symlink_to(new.package.resolve() if new.package.is_symlink() else new.package)


def _here(place: Place, request: Request) -> Answer:
    """Look at a side in this process."""
    before = Path.cwd()
    os.chdir(place.folder)
    try:
        return side.look(request)
    finally:
        os.chdir(before)
        side.forget()


@contextmanager
def _begun(place: Place, request: Request) -> "Iterator[subprocess.Popen[str]]":
    """A process that looks at a side with that side's code, and ends with this one."""
    begun = subprocess.Popen(
        [sys.executable, "-P", "-m", "sft_runner.review.diff.side"],
        cwd=place.folder,
        env={**os.environ, "PYTHONPATH": str(place.package.parent), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    try:
        assert begun.stdin
        try:
            begun.stdin.write(json.dumps(asdict(request)))
            begun.stdin.close()
        except BrokenPipeError:
            pass  # it has ended, and says why
        begun.stdin = None
        yield begun
    finally:
        if begun.poll() is None:
            begun.kill()
        begun.wait()


def _ended(begun: "subprocess.Popen[str]") -> tuple[Answer | None, str]:
    """The answer, or why there is none."""
    out, err = begun.communicate()
    try:
        answer = json.loads(out) if begun.returncode == 0 else None
    except ValueError:
        answer = None
    if isinstance(answer, dict) and answer.get("version") == VERSION:
        return answer, ""
    said = err.strip().splitlines() or [f"exit code {begun.returncode}"]
    return None, said[-1] if begun.returncode else "it answers in another form"


def _elsewhere(place: Place, request: Request) -> Answer:
    with _begun(place, request) as begun:
        answer, failed = _ended(begun)
    if answer is None:
        raise StageFailed(f"{place.folder.name} cannot be looked at: {failed}")
    return answer


def _cleaned(answer: Answer, place: Place) -> Answer:
    """The answer without the folders of this command: paths are those of the project."""
    up = os.path.relpath(place.top, place.folder)
    steps = [
        (f"{place.folder}/", ""),
        (str(place.folder), "."),
        (f"{place.top}/", "" if up == "." else f"{up}/"),
        (str(place.root), ""),
    ]
    if place.package == PACKAGE:
        steps += [(f"{PACKAGE.parent}/", "")]
        steps += [(f"{PACKAGE.parents[1]}/", "")] if (PACKAGE.parents[1] / "pyproject.toml").is_file() else []

    @cache
    def named(text: str) -> str:
        for path, name in steps:
            text = text.replace(path, name)
        return text

    def told(value: Any) -> Any:
        if isinstance(value, str):
            return named(value)
        if isinstance(value, dict):
            return {told(key): told(part) for key, part in value.items()}
        return [told(part) for part in value] if isinstance(value, list | tuple) else value

    cleaned: Answer = told(answer)
    return cleaned
