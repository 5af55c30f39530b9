"""`recipes/NAME.lock`: YAML beside the recipe, one value a line, so that a git diff shows what changed."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sft_runner.config import sources
from sft_runner.disk import alone, replace
from sft_runner.errors import UserError
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


def read_filled(recipe: str) -> Lock | None:
    """The same; None too for a lock that is empty, and so holds nothing that could be lost."""
    try:
        return read(recipe)
    except parsing.EmptyLock:
        return None


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
    with alone(path.parent):  # another command may renew another preset of it
        known = read_filled(recipe)
        presets = {**(known.presets if known else {}), **entries}
        text = HEADER.format(name=recipe, shown=shlex.quote(recipe)) + _dumped(presets)
        return replace(path, text.encode())


def is_own(recipe: str) -> bool:
    """Whether a recipe is there, and in `./recipes`."""
    found = sources.recipes().get(recipe)
    return found is not None and found.path.parent.resolve() == (Path.cwd() / "recipes").resolve()


def require_own(recipe: str) -> None:
    """Raise `UserError` for a recipe that is not in `./recipes`: its lock lies beside it, in the package."""
    if not is_own(recipe):
        path = sources.recipes()[recipe].path
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
