"""`locked=true`: a run is what the lock of its recipe says, or it does not begin.

Planning asks here, so that every way to a run does: the command line, each job of a sweep, Python, and the plan that is
made again once model or data are fetched.
"""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sft_runner.config import sources
from sft_runner.config.run import Run
from sft_runner.config.words import key_of
from sft_runner.errors import UserError
from sft_runner.evaluation import gates
from sft_runner.fingerprint import Hashes
from sft_runner.model.files import locate
from sft_runner.model.remote_code import is_commit
from sft_runner.review.cases import relative
from sft_runner.review.lock import file, making
from sft_runner.review.lock.drift import Drift, drifts
from sft_runner.review.lock.entry import Entry
from sft_runner.review.lock.file import Lock
from sft_runner.review.lock.places import place_of

KEY = "locked=true"


def pinned(run: Run) -> Run:
    """The run with the lock's commit as `model.revision` where its model is that one, so that nothing else is loaded
    whatever is fetched meanwhile, or is still to be fetched.

    Raises `UserError` for a run without a lock.
    """
    return pin(run, _lock(run)[1])


def pin(run: Run, held: Entry) -> Run:
    """The same for an entry. A commit that was asked for stays, and drifts."""
    asked, commit = run.config.model, held.model.commit
    if commit is None or held.model.name != asked.name or is_commit(asked.revision):
        return run
    try:
        here = locate(asked)
    except UserError:
        return run  # planning tells it with what else is wrong
    if here.folder is not None and here.commit != commit:
        return run
    return replace(run, config=replace(run.config, model=replace(asked, revision=commit)))


def require(run: Run, hashes: Hashes) -> Run:
    """The run with a warning for each package of which its lock holds no version.

    Raises `UserError` that names each thing that is not as the lock says. What is still to be fetched is looked at when
    it is here.
    """
    lock, held = _lock(run)
    found = making.found(run, held.words, hashes, held)
    drifted = [*drifts(held, found, place_of(run, run.overrides)), *_forced(run)]
    recipe, preset = run.choices["recipe"], making.preset_of(run)
    if not drifted:
        told = _not_held(lock, held, found.entry, _command(recipe, preset))
        return replace(run, warnings=(*run.warnings, *told))
    hashes.save()  # so that the next try is as quick as a plan
    where = f"{sources.shown(lock.path)}, line {lock.line(preset)}"
    message = f"{KEY}: this is not what {where}, holds for {recipe} on {preset}:"
    lines = "".join(f"\n  - {one.text}" for one in drifted)
    raise UserError(message + lines, _remedy(_command(recipe, preset), held, run, drifted))


def _not_held(lock: Lock, held: Entry, here: Entry, command: str) -> Iterator[str]:
    """What takes part, and may be of any version: it was not installed where the lock was made."""
    for name, version in here.libraries.items():
        if held.libraries.get(name) is None:
            told = f"{KEY}: {name} is not held, and {version or 'not installed'} here"
            yield f"{told}: {sources.shown(lock.path)} has no version of it; make it where it is installed: {command}"


def _lock(run: Run) -> tuple[Lock, Entry]:
    recipe, preset = run.choices.get("recipe", "None"), making.preset_of(run)
    if recipe not in sources.recipes():
        hint = "name one recipe, or go without locked=true"
        raise UserError(f"{KEY}: a lock belongs to a recipe, and recipe={recipe} is none", hint)
    lock = file.read(recipe)
    if lock is None:
        hint = f"make it: {_command(recipe, preset)}"
        raise UserError(f"{KEY}: the recipe '{recipe}' has no lock, {sources.shown(file.place(recipe))}", hint)
    if preset not in lock.presets:
        known, hint = ", ".join(lock.presets) or "none", f"add it: {_command(recipe, preset)}"
        raise UserError(f"{KEY}: {sources.shown(lock.path)} has no entry for {preset}, only for {known}", hint)
    return lock, lock.presets[preset]


def _command(recipe: str, preset: str) -> str:
    return shlex.join(["sft-runner", "lock", recipe, "--hardware", preset])


def _forced(run: Run) -> list[Drift]:
    """A force that would serve what misses a gate: the gates are part of what was reviewed."""
    over = [stage for stage in gates.HELD_BACK if stage in run.config.force and run.config.evaluate.gates]
    return [Drift("setting", f"force=[{','.join(over)}] goes over evaluate.gates", ("settings",))] if over else []


def _remedy(lock: str, held: Entry, run: Run, drifted: Sequence[Drift]) -> str:
    """What brings back what was locked, and how to lock what is here instead."""
    keys = {one.keys[1] for one in drifted if one.keys[:1] == ("settings",) and len(one.keys) > 1}
    words = {relative(word): word for word in run.overrides}
    said = {word: key_of(word) for short, word in words.items() if short not in held.words}
    extra = [word for word, key in said.items() if any(key == one or key.startswith(f"{one}.") for one in keys)]
    lines = [f"leave out {shlex.join(extra)}"] if extra else []
    if missing := [word for word in held.words if word not in words]:
        lines.append(f"the lock is of a command with {shlex.join(missing)}")
    lines += dict.fromkeys(one.remedy for one in drifted if one.remedy)
    return "\n  ".join([*lines, f"or lock what is here, and have the difference reviewed: {lock}"])
