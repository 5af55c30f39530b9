"""What a run is made of here and now, in the form of a lock's entry.

What is not on this machine is named in `unknown`, so that a check may pass over it and a lock may refuse it.
"""

import hashlib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sft_runner import hardware
from sft_runner.config.run import Run
from sft_runner.config.schema import Config, Data, Model
from sft_runner.data import files, sets
from sft_runner.data.sources import Source, sources_of, told_of
from sft_runner.data.sources.address import address_of
from sft_runner.data.sources.content import content_of
from sft_runner.data.template.choice import OWN
from sft_runner.errors import DataError, Mistake, UserError
from sft_runner.evaluation import engines
from sft_runner.fingerprint import UNRESOLVED, Hashes, chain
from sft_runner.model.files import locate
from sft_runner.planning import wanted
from sft_runner.review.cases import relative
from sft_runner.review.lock import libraries, model
from sft_runner.review.lock.entry import Entry, Held, Rows, Weights
from sft_runner.stages import STAGES

GATES = "evaluate.gates"
"""Counts for no stage, and is held all the same: who may move a gate need not be reviewed."""
ABSENT = "elsewhere/model"
"""Stands for a folder that is not here, as a model of the hub that is not here."""
OPEN_HASH = "open"
"""Stands for the bytes of data that is left open."""


@dataclass(frozen=True)
class Found:
    """What is here."""

    entry: Entry
    """In the words of a lock; what is unknown is None, or left out."""
    config: Config
    """The settled configuration."""
    unknown: dict[str, str]
    """`model`, `tokenizer`, `template`, `data`, `sets` or the name of a package -> why it cannot be told."""
    line_ends: frozenset[tuple[str, str]] = frozenset()
    """`data` or `sets`, and the source of it that has other line ends than it is held with."""


def found(
    run: Run, words: Collection[str], hashes: Hashes, before: Entry | None = None, counted: bool = False
) -> Found:
    """What a run is made of.

    Held against the entry `before`, the stages are its own too, what it names and is not there is unknown, and rows are
    counted only where the bytes are others, unless all are to be `counted`.
    Raises `UserError` for a model or data that cannot be used.
    """
    asked = run.config.model
    if before and before.model.name == relative(asked.name) and _is_gone(asked):
        run = replace(run, config=replace(run.config, model=replace(asked, name=ABSENT)))
    run = engines.settled(run)
    config = run.config
    unknown: dict[str, str] = {}
    weights, tokenizer, template = _model(config, asked.name, hashes, unknown)
    known: dict[str, Held | None] = {}
    ends: set[tuple[str, str]] = set()
    parts = {"data": config.data if config.data.path or config.data.sources else None, "sets": sets.as_data(config)}
    for kind, data in parts.items():
        known[kind] = _held(kind, data, hashes, before, unknown, counted, ends) if data else None
    data_hashes = {kind: _hash(data, kind in unknown, hashes) for kind, data in parts.items()}
    data_hashes["data"] = data_hashes["data"] or OPEN_HASH
    stages = _stages(config, before)
    fingerprints: dict[str, str] = {}
    settings: dict[str, Any] = {}
    unclear: set[str] = set()
    for name, made in chain(config, stages, data_hashes, hashes).items():
        settings |= made.config
        part = STAGES[name].model
        missing = bool(part) and (weights.commit is None and weights.sha256 is None or tokenizer is None)
        if missing or made.data in (UNRESOLVED, OPEN_HASH) or unclear & set(made.inputs):
            unclear.add(name)
        else:
            fingerprints[name] = made.fingerprint()
    if config.evaluate.gates:
        settings[GATES] = config.evaluate.gates
    versions = libraries.versions(config)
    unknown |= {name: "not installed" for name, version in versions.items() if version is None}
    entry = Entry(
        words=tuple(words),
        model=weights,
        tokenizer=tokenizer,
        template=template,
        data=known["data"],
        sets=known["sets"],
        stages=fingerprints,
        versions={name: STAGES[name].version for name in stages},
        settings={key: plain(value) for key, value in settings.items()},
        libraries=versions,
    )
    return Found(entry, replace(config, model=asked), unknown, frozenset(ends))


def preset_of(run: Run) -> str:
    """The hardware preset under which a run is locked; with `hardware=auto` the one that was found."""
    chosen = run.choices.get("hardware", "")
    return run.config.hardware.name if chosen in ("", "None", "auto") else chosen


def detected() -> str:
    """The preset that `hardware=auto` takes on this machine."""
    return hardware.detect().preset


def plain(value: Any) -> Any:
    """A value as YAML has it: no tuples."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _stages(config: Config, before: Entry | None) -> list[str]:
    needed = {*wanted(config.stage.until, config.export)}
    for name in before.versions if before else ():
        needed |= {*wanted(name)} if name in STAGES else set()
    return [name for name in STAGES if name in needed]


def _is_gone(asked: Model) -> bool:
    """Whether this names a folder that is not here."""
    try:
        locate(asked)
    except UserError as error:
        return error.kind == Mistake.MISSING_PATH
    return False


def _model(
    config: Config, name: str, hashes: Hashes, unknown: dict[str, str]
) -> tuple[Weights, str | None, str | None]:
    located = locate(config.model)
    weights = Weights(relative(name), located.commit, model.weights(located, hashes), located.own_code)
    template = model.template(config, located.folder, hashes)
    if located.folder is None:
        unknown["tokenizer"] = f"{name} is not on this machine"
        if located.commit is None:
            unknown["model"] = unknown["tokenizer"]
        if template is None:
            unknown["template"] = unknown["tokenizer"]
        return weights, None, template
    return weights, model.tokenizer(located.folder, hashes), template


def _held(
    kind: str,
    data: Data,
    hashes: Hashes,
    before: Entry | None,
    unknown: dict[str, str],
    counted: bool,
    ends: set[tuple[str, str]],
) -> Held | None:
    """The bytes and rows of all sources; None while one of them is not fetched."""
    held: Held | None = getattr(before, kind, None)
    rows: dict[str, Rows] = {}
    for source in sources_of(data):
        try:
            with told_of(source):
                content = content_of(address_of(source.path), source.format)
        except DataError as error:
            if error.kind != Mistake.MISSING_PATH or held is None or source.name not in held.sources:
                raise
            content = None  # data need not be checked in with the lock
        if content is None:
            unknown[kind] = f"{source.path} is not on this machine"
            return None
        digest = content.digest(hashes.of)
        known = held.sources.get(source.name) if held and not counted else None
        told = {one.sha256 for one in held.sources.values()} if held else set()
        if told and digest not in told and told & {content.digest(partial(_ending, end)) for end in (b"\n", b"\r\n")}:
            ends.add((kind, source.name))
        if known is None or known.sha256 != digest:
            known = Rows(digest, _rows(source, data, strict=before is None))
        rows[source.name] = known
    return Held(files.content_hash(replace(data, template=OWN), hashes.of), rows)


def _ending(end: bytes, path: Path) -> str:
    """SHA-256 of a file as it would be with these line ends."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for line in file:
            found.update(line.rstrip(b"\r\n") + end if line.endswith(b"\n") else line)
    return found.hexdigest()


def _rows(source: Source, data: Data, strict: bool) -> int | None:
    """How many rows are read of a source, counted. Raises `DataError` for one that cannot be read, or has none, if that
    matters."""
    met: Counter[str] = Counter()
    try:
        rows = sum(1 for _ in files.read(source, data, met))
    except DataError:
        if strict:
            raise
        return None
    if strict and not rows:
        raise files.no_rows(source, met)
    return rows


def _hash(data: Data | None, missing: bool, hashes: Hashes) -> str:
    """The hash that counts in fingerprints, a template's file with it."""
    if data is None:
        return ""
    return UNRESOLVED if missing else files.content_hash(data, hashes.of)
