"""Locks against what is here, one after the other, and without a network."""

import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sft_runner.config import sources
from sft_runner.config.layers import layers, settled
from sft_runner.config.run import Run
from sft_runner.errors import SftError
from sft_runner.fingerprint import Hashes
from sft_runner.review.cases import said
from sft_runner.review.lock import file, holding, making
from sft_runner.review.lock.drift import LIBRARY, drifts
from sft_runner.review.lock.entry import Entry
from sft_runner.review.lock.file import SUFFIX, Lock
from sft_runner.review.lock.parsing import BrokenLock
from sft_runner.review.lock.places import place_of

LIBRARIES = "libraries"
"""What `ignore` may name."""


@dataclass(frozen=True)
class Finding:
    """One thing that a check says of a lock."""

    file: Path
    """The lock."""
    line: int
    """Its line there, from 1."""
    recipe: str
    """The recipe."""
    preset: str
    """The hardware preset; empty for the whole lock."""
    part: str
    """What drifted, as in `Drift.part`; `lock` for a lock that cannot be held against anything."""
    text: str
    """What is not as it says."""
    unchecked: bool = False
    """Whether this only says what could not be looked at on this machine."""

    def __str__(self) -> str:
        preset = f"{self.preset}: " if self.preset else ""
        return f"{sources.shown(self.file)}, line {self.line}: {preset}{self.text}"


def own() -> list[str]:
    """The names of the locks in `./recipes`, also of those whose recipe is gone."""
    return sorted(path.name.removesuffix(SUFFIX) for path in (Path.cwd() / "recipes").glob(f"*{SUFFIX}"))


def check(
    names: Sequence[str], presets: Collection[str] = (), ignore: Collection[str] = (), strict: bool = False
) -> list[Finding]:
    """What the locks of these recipes say that is not so, and what cannot be looked at on this machine, whose own
    settings stay out of it. Rows are counted where it is `strict`."""
    with sources.without_local(), sources.steady():
        return list(_findings(names, presets, ignore, strict))


def _findings(
    names: Sequence[str], presets: Collection[str], ignore: Collection[str], strict: bool
) -> Iterator[Finding]:
    hashes = Hashes()
    for name in names:
        path = Path.cwd() / "recipes" / f"{name}{SUFFIX}"
        if name not in sources.recipes() or ((path.is_file() or path.is_symlink()) and not file.is_own(name)):
            text = f"its recipe {sources.shown(path.with_suffix('.yaml'))} is gone; remove the lock too"
            yield Finding(path, 1, name, "", "lock", text)
            continue
        try:
            lock = file.read(name)
        except BrokenLock as error:
            yield Finding(file.place(name), error.line, name, "", "lock", f"{error.what}\n  {error.hint}")
            continue
        if lock is None:
            text = f"the recipe has no lock; make it: {shlex.join(['sft-runner', 'lock', name])}"
            yield Finding(file.place(name), 1, name, "", "lock", text)
            continue
        wanted = [preset for preset in lock.presets if not presets or preset in presets]
        if not wanted:
            text = f"nothing checked: it has no entry for {', '.join(presets) or 'any preset'}"
            yield Finding(lock.path, 1, name, "", "lock", text, unchecked=True)
        for preset in wanted:
            yield from _entry(lock, name, preset, hashes, ignore, strict)
    hashes.save()


def _entry(
    lock: Lock, name: str, preset: str, hashes: Hashes, ignore: Collection[str], strict: bool
) -> Iterator[Finding]:
    held = lock.presets[preset]
    words = (said("recipe", name), said("hardware", preset), *held.words)
    try:
        run = holding.pin(_as_locked(settled(layers(words)), held), held)
        found = making.found(run, held.words, hashes, held, counted=strict)
    except SftError as error:
        yield Finding(lock.path, lock.line(preset), name, preset, "lock", error.show())
        return
    unchecked = _unchecked(held, found)
    for one in drifts(held, found, place_of(run, words), left_open=False):
        if one.part == LIBRARY and (LIBRARIES in ignore or one.keys[-1] in unchecked):
            continue
        yield Finding(lock.path, lock.line(preset, *one.keys), name, preset, one.part, one.text)
    for part, why in unchecked.items():
        library = part in found.entry.libraries
        if not (library and LIBRARIES in ignore):
            keys = ("libraries", part) if library else (part,)
            yield Finding(lock.path, lock.line(preset, *keys), name, preset, part, f"{part} not checked: {why}", True)


def _unchecked(held: Entry, found: making.Found) -> dict[str, str]:
    """Part, or package -> why it is not held against anything: it is not in the lock, or not here."""
    names = ["tokenizer", "template", *(name for name in found.entry.libraries if name in held.libraries)]
    values = {"tokenizer": held.tokenizer, "template": held.template, **held.libraries}
    absent = {name: "the lock does not hold it; make it anew where it is" for name in names if values[name] is None}
    return absent | found.unknown


def _as_locked(run: Run, held: Entry) -> Run:
    """The run with the engine that the lock has, where it is left to the machine: this one need not have vLLM."""
    if (run.composed or run.config).evaluate.engine != "auto":
        return run
    engine = str(held.settings.get("evaluate.engine", "transformers"))
    return replace(run, config=replace(run.config, evaluate=replace(run.config.evaluate, engine=engine)))
