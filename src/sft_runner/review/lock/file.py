"""`recipes/NAME.lock`: YAML beside the recipe, one value a line, so that a git diff shows what changed."""

import fcntl
import glob
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sft_runner.config import sources
from sft_runner.disk import write_bytes
from sft_runner.errors import MachineError, UserError
from sft_runner.review.lock import parsing
from sft_runner.review.lock.entry import OPEN, Entry, Held

SUFFIX = ".lock"
VERSION = parsing.VERSION
HEADER = """\
# What recipe={name} is made of, for each hardware preset: with locked=true nothing else runs.
# Written by `sft-runner lock {shown}`, which renews it too. What drifted: `sft-runner lock --check {shown}`.
"""


@dataclass(frozen=True)
class Lock:
    """A recipe's lock as it lies on disk."""

    path: Path
    """Its file."""
    presets: dict[str, Entry]
    """Hardware preset -> what is held for it."""
    lines: dict[tuple[str, ...], int]
    """Line of each key, such as `("presets", "cpu", "model", "commit")`; from 1."""

    def line(self, preset: str, *keys: str) -> int:
        """The line of a key below a preset, or of the nearest part around it that there is."""
        path = ("presets", preset, *keys)
        return next((self.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.lines), 1)


def place(recipe: str) -> Path:
    """Where the lock of a recipe is, whether or not there is one. Raises `KeyError` for a recipe that is not there."""
    path = sources.recipes()[recipe].path
    return path.with_name(path.stem + SUFFIX)


def read(recipe: str) -> Lock | None:
    """The lock of a recipe; None where it has none. Raises `BrokenLock` for one that cannot be used."""
    path = place(recipe)
    return at(path) if path.exists() else None


def at(path: Path) -> Lock:
    """The lock in a file. Raises `BrokenLock` for one from a newer version, with a merge conflict in it, cut off, or
    broken in any other way."""
    presets, lines = parsing.parse(path, sources.shown(path))
    return Lock(path, presets, lines)


def write(recipe: str, entries: Mapping[str, Entry]) -> bool:
    """Put entries into the lock of a recipe, beside those of other presets; whether anything changed.

    Raises `UserError` for a recipe that is not in `./recipes`, and `MachineError` where its folder cannot be written.
    """
    path = place(recipe)
    require_own(recipe)
    with _explained(path), _alone(path.parent):  # another command may renew another preset of it
        known = at(path) if path.exists() else None
        presets = {**(known.presets if known else {}), **entries}
        text = HEADER.format(name=recipe, shown=shlex.quote(recipe)) + _dumped(presets)
        if known and path.read_bytes() == text.encode():
            return False
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):  # of a command that was killed
            left.unlink(missing_ok=True)
        write_bytes(path, text.encode())
    return True


def require_own(recipe: str) -> None:
    """Raise `UserError` for a recipe that is not in `./recipes`: its lock lies beside it, in the package."""
    path = sources.recipes()[recipe].path
    if path.parent.resolve() != (Path.cwd() / "recipes").resolve():
        raise UserError(
            f"{path}: the recipe '{recipe}' is not in ./recipes but shipped with the package, and so is its lock",
            f"copy it to recipes/{path.name}, and lock that",
        )


def _dumped(presets: Mapping[str, Entry]) -> str:
    values = {"version": VERSION, "presets": {name: _plain(presets[name]) for name in sorted(presets)}}
    return str(yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 20))


def _plain(entry: Entry) -> dict[str, Any]:
    model = {key: value for key, value in vars(entry.model).items() if key != "own_code" or value}
    found: dict[str, Any] = {
        "words": list(entry.words),
        "model": model,
        "tokenizer": entry.tokenizer,
        "template": entry.template,
        "data": _held(entry.data) if entry.data else OPEN,
    }
    if entry.sets:
        found["sets"] = _held(entry.sets)
    for name in ("stages", "versions", "settings", "libraries"):
        values = getattr(entry, name)
        found[name] = values if name in ("stages", "versions") else dict(sorted(values.items()))
    return found


def _held(held: Held) -> dict[str, Any]:
    return {"sha256": held.sha256, "sources": {name: vars(rows) for name, rows in sorted(held.sources.items())}}


class _Dumper(yaml.SafeDumper):
    """Writes every value where it stands; a value that stands twice is no alias."""

    def ignore_aliases(self, data: Any) -> bool:
        """Always."""
        return True


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder against other commands that write locks there; ends with this process, however it ends."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # some network disks cannot
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    hint = "free some space or mend the permissions, and run the command again"
    try:
        yield
    except MachineError as error:
        raise MachineError(error.message, hint) from error
    except OSError as error:
        raise MachineError(f"{sources.shown(path)}: cannot be written: {error.strerror or error}", hint) from error
