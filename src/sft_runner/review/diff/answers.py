"""Two sides, looked at at the same time, each by the code that belongs to it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from sft_runner.config.sources import PACKAGE
from sft_runner.errors import StageFailed
from sft_runner.review.diff.conversation import VERSION
from sft_runner.review.diff.side import Request, Side

FEW = 24
"""Up to so many cases both sides are looked at in this process: starting another one takes longer."""
_SIDE = "review/diff/conversation.py"
Answer = dict[str, Any]
"""What a side says."""
Bring = Callable[[int, Sequence[str]], None]
"""Is told which paths the side of a number reads, and brings them."""


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


class _Asked(Protocol):
    """A side that is looked at."""

    def paths(self) -> list[str]: ...
    def answer(self) -> Answer: ...


class _Failed(Exception):
    """Why a side cannot be looked at by a process of its own."""


def answers(places: list[Place], request: Request, bring: Bring, notes: list[str]) -> list[Answer]:
    """What each side is. `notes` is told what a person should know. Raises `StageFailed` where today's code fails."""
    old, new = places
    if old.package == PACKAGE:
        return _asked(places, request, bring, [False, _many(new, request)])
    if not (old.package / _SIDE).is_file():
        notes.append("the code of the old side has no diff yet: today's code resolves both sides")
        _take_code(old, new)
    try:
        return _asked(places, request, bring, [True, True])
    except _Failed as failed:
        if old.package.resolve() == new.package.resolve():
            raise StageFailed(f"the sides cannot be looked at: {failed}") from None
        notes.append(f"the code of the old side cannot be asked ({failed}): today's code resolves both sides")
    _take_code(old, new)
    try:
        return _asked(places, request, bring, [True, True])
    except _Failed as failed:
        raise StageFailed(f"the sides cannot be looked at: {failed}") from None


def _many(place: Place, request: Request) -> bool:
    """Whether there is enough to do for two processes."""
    count = len(list((place.folder / "recipes").glob("*.yaml"))) if request.only is None else len(request.only)
    return count * (1 + len(request.presets)) > FEW


def _asked(places: Sequence[Place], request: Request, bring: Bring, elsewhere: Sequence[bool]) -> list[Answer]:
    """First all sides tell which files they read, then all answer. Raises `_Failed` for one that is `elsewhere`."""
    with ExitStack() as stack:
        order = sorted(range(len(places)), key=lambda number: not elsewhere[number])
        sides: dict[int, _Asked] = {}
        for number in order:  # the other processes begin first, and work while this one does
            begun = stack.enter_context(_begun(places[number], request)) if elsewhere[number] else None
            sides[number] = begun or _Here(places[number], request)
        for number in order:
            bring(number, sides[number].paths())
        for side in sides.values():
            if isinstance(side, _Elsewhere):
                side.go_on()
        found = {number: sides[number].answer() for number in reversed(order)}
    return [found[number] for number in range(len(places))]


def _take_code(old: Place, new: Place) -> None:
    """Let today's code look at the old tree."""
    if not old.package.parent.is_symlink():
        if old.package.is_symlink():
            old.package.unlink()
        elif old.package.is_dir():
            shutil.rmtree(old.package)
        old.package.symlink_to(new.package.resolve() if new.package.is_symlink() else new.package)


class _Here:
    """A side that is looked at in this process."""

    def __init__(self, place: Place, request: Request) -> None:
        self.place = place
        with _inside(place.folder):
            self.side = Side(request)

    def paths(self) -> list[str]:
        return self.side.paths

    def answer(self) -> Answer:
        with _inside(self.place.folder):
            return self.side.answer()


class _Elsewhere:
    """A side that is looked at by a process with that side's code, which ends with this one."""

    def __init__(self, begun: "subprocess.Popen[str]", errors: IO[bytes], request: Request) -> None:
        self.begun, self.errors = begun, errors
        self._tell(json.dumps(asdict(request)))

    def paths(self) -> list[str]:
        told = self._heard()
        if told.get("version") != VERSION or not isinstance(told.get("paths"), list):
            raise _Failed("it answers in another form")
        return [str(path) for path in told["paths"]]

    def go_on(self) -> None:
        """Tell that everything is there."""
        self._tell("go on")

    def answer(self) -> Answer:
        return self._heard()

    def _tell(self, text: str) -> None:
        assert self.begun.stdin
        try:
            self.begun.stdin.write(f"{text}\n")
            self.begun.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and says why

    def _heard(self) -> Answer:
        assert self.begun.stdout
        try:
            heard = json.loads(self.begun.stdout.readline())
        except ValueError:
            heard = None
        if isinstance(heard, dict):
            return heard
        self.begun.communicate()  # it has ended, or does so when nobody speaks to it any more
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace").strip().split("\n")[-1]
        raise _Failed(said or f"exit code {self.begun.returncode}")


@contextmanager
def _begun(place: Place, request: Request) -> Iterator[_Elsewhere]:
    with tempfile.TemporaryFile() as errors:
        begun = subprocess.Popen(
            [sys.executable, "-P", "-m", "sft_runner.review.diff.conversation"],
            cwd=place.folder,
            env={**os.environ, "PYTHONPATH": str(place.package.parent), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
        )
        try:
            yield _Elsewhere(begun, errors, request)
        finally:
            begun.kill()
            begun.communicate()


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """In another folder, of which nothing is remembered afterwards."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
