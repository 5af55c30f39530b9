"""Locks made, and made anew."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sft_runner.config import sources
from sft_runner.config.composing import jobs
from sft_runner.config.layers import layers, settled
from sft_runner.config.run import Run
from sft_runner.data import files, sets
from sft_runner.errors import MachineError, UserError
from sft_runner.fingerprint import Hashes
from sft_runner.masking import masked
from sft_runner.review.cases import EARLIER, ELSEWHERE, case, relative, said, telling
from sft_runner.review.lock import file, making
from sft_runner.review.lock.addresses import has_secret
from sft_runner.review.lock.drift import Drift, drifts
from sft_runner.review.lock.entry import Entry
from sft_runner.review.lock.making import Found


@dataclass(frozen=True)
class Renewed:
    """What became of one entry of a lock."""

    shown: str
    """The file."""
    preset: str
    """The hardware preset."""
    written: bool
    """Whether the file is another."""
    same_text: bool
    """Whether at most its line ends are others."""
    changes: tuple[Drift, ...]
    """What is held otherwise than before."""
    open: tuple[str, ...]
    """What is not held, and why."""

    def __str__(self) -> str:
        told = "unchanged" if not self.written else "written, with other line ends" if self.same_text else "written"
        return "\n".join([f"{self.shown}: {self.preset}: {told}", *(f"  {one.text}" for one in self.changes)])


def renew(recipe: str, presets: Sequence[str], words: Sequence[str], fresh: bool) -> Iterator[Renewed]:
    """Lock a recipe on these presets: with none named on those that its lock has, else on that of its header. An entry
    that is there keeps its words, unless there are others, or it is made `fresh`. This machine's own settings stay out.

    Raises `UserError` for what cannot be composed or used, `MachineError` for a model of which not even the commit is
    known; the entries before it are written.
    """
    file.require_own(recipe)
    lock = file.read_filled(recipe)
    held = dict(lock.presets) if lock else {}
    hashes = Hashes()
    asked_for: list[str | None] = [*dict.fromkeys(presets)] or [*held] or [None]
    for asked in asked_for:
        before = held.get(asked) if asked else None
        given = (said("hardware", asked),) if asked else ()
        if before and not words and not fresh:
            command: Sequence[str] = (said("recipe", recipe), *given, *before.words)
        else:
            command = case(recipe, *given, *words).words
        run = _run(command)
        preset = making.preset_of(run)
        before = held.get(preset)
        found = _found(run, _besides(command, run), hashes)
        changes = _changes(before, found)
        path = file.place(recipe)
        old = path.read_bytes() if path.is_file() else b""
        written = file.write(recipe, {preset: found.entry})
        ends = old.replace(b"\r\n", b"\n") == path.read_bytes()
        yield Renewed(sources.shown(path), preset, written, ends, changes, _open(found))
    hashes.save()


def _run(command: Sequence[str]) -> Run:
    """The run of all stages that a command asks for. Raises `UserError`, for a sweep too."""
    if sweep := next((word for word in command if len(jobs([word])) > 1), None):
        raise UserError(f"{sweep} is several values, and a lock holds one of them", "name the one that is meant")
    with sources.without_local():
        return settled(layers(telling(command, ELSEWHERE - EARLIER - {"recipe"})))


def _besides(command: Sequence[str], run: Run) -> tuple[str, ...]:
    """What an entry keeps of a command. Raises `UserError` for a secret."""
    dropped = ELSEWHERE - EARLIER if run.config.train.continue_from is not None else ELSEWHERE
    found = tuple(map(relative, telling(command, dropped | {"hardware"})))
    for word in found:
        if has_secret(word):
            hint = "a lock is checked in: leave the secret out, and keep it where git looks for it"
            raise UserError(f"{masked(word)}: this address holds a secret", hint)
    return found


def _found(run: Run, words: Sequence[str], hashes: Hashes) -> Found:
    """What is here, its data fetched. Raises `MachineError` for a model whose commit is not known."""
    data = run.config.data if run.config.data.path or run.config.data.sources else None
    for one in (data, sets.as_data(run.config)):
        if one and files.missing(one):
            files.fetch(one)
    found = making.found(run, words, hashes)
    if why := found.unknown.get("model"):
        hint = f"fetch it (hf download {run.config.model.name}), or pin it: model.revision=COMMIT"
        raise MachineError(f"model.name: {why}, and its commit is not known", hint)
    return found


def _open(found: Found) -> tuple[str, ...]:
    """What is not held, and why."""
    told = [f"{part} is not locked: {why}" for part, why in found.unknown.items()]
    if found.entry.data is None:
        told.append("data is not locked: the recipe leaves data.path to whoever runs it")
    return tuple(told)


def _changes(before: Entry | None, found: Found) -> tuple[Drift, ...]:
    return tuple(drifts(before, found, left_open=False)) if before else ()
