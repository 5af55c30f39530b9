"""What is not as a lock says, each thing by its name."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from sft_runner.config.schema import Config, flatten
from sft_runner.review.lock.entry import OPEN, Entry, Held
from sft_runner.review.lock.making import GATES, Found

SHORT = 12
"""Digits of a commit or hash in a message."""
LIBRARY = "library"
SOURCES = "data.sources"
Place = Callable[[str], str]
"""Where a setting was said, such as `recipes/x.yaml, line 9`; empty where nobody can tell."""


@dataclass(frozen=True)
class Drift:
    """One thing that is not as the lock says."""

    part: str
    """`model`, `tokenizer`, `template`, `data`, `sets`, `setting`, `library` or `stage`."""
    text: str
    """What it is called, what the lock says, and what is here."""
    keys: tuple[str, ...]
    """Where the lock says it, below its preset."""
    remedy: str = ""
    """What brings back what the lock says, where there is more than to undo the change."""


def drifts(held: Entry, found: Found, place: Place = lambda key: "") -> list[Drift]:
    """Everything that is not as it is held; what is unknown here is passed over."""
    here = found.entry
    drifted = [*_model(held, found), *_rows("data", held.data, here.data, found)]
    drifted += _rows("sets", held.sets, here.sets, found)
    drifted += _settings(held, here, place)
    drifted += _versions(held, here)
    if all(one.keys[-1].startswith(GATES) for one in drifted):  # else it is plain why a fingerprint is another
        drifted += _fingerprints(held, here)
    return [*drifted, *_libraries(held, here)]


def _model(held: Entry, found: Found) -> Iterator[Drift]:
    was, now = held.model, found.entry.model
    if was.name != now.name:
        yield Drift("model", f"model: {was.name} -> {now.name}", ("model", "name"), f"model.name={was.name}")
    elif was.commit != now.commit and "model" not in found.unknown:
        remedy = f"model.revision={was.commit}" if was.commit else ""
        text = f"model: commit {_short(was.commit)} -> {_short(now.commit)}"
        yield Drift("model", text, ("model", "commit"), remedy)
    elif was.sha256 != now.sha256 and "tokenizer" not in found.unknown:
        text = f"model: {was.name}: weights or config.json {_short(was.sha256)} -> {_short(now.sha256)}"
        yield Drift("model", text, ("model", "sha256"))
    elif was.own_code != now.own_code and "tokenizer" not in found.unknown:
        text = f"model: {'its own code' if was.own_code else 'transformers'} -> "
        yield Drift("model", text + ("its own code" if now.own_code else "transformers"), ("model",))
    for part in ("tokenizer", "template"):
        before, after = getattr(held, part), getattr(found.entry, part)
        if None not in (before, after) and before != after:
            yield Drift(part, f"{part}: {_short(before)} -> {_short(after)}", (part,))


def _rows(part: str, was: Held | None, now: Held | None, found: Found) -> Iterator[Drift]:
    if part in found.unknown or (part == "data" and was is None):  # what is left open may be anything
        return
    if was is None or now is None:
        if was is not now:
            empty = OPEN if part == "data" else "none"
            text = f"{part}: {', '.join(was.sources) if was else empty} -> {', '.join(now.sources) if now else empty}"
            yield Drift(part, text, (part,))
        return
    if was.sha256 == now.sha256:
        return
    if len(was.sources) == len(now.sources) == 1:
        ((old, before),), ((new, after),) = was.sources.items(), now.sources.items()
        named = new if old == new else f"{old} -> {new}"
        text = f"{part}: {named} ({_counts(before.rows, after.rows)})"
        yield Drift(part, text, (part, "sources", old))
        return
    for name in sorted({*was.sources, *now.sources}):
        if name not in now.sources:
            yield Drift(part, f"{part}: {name} is gone", (part, "sources", name))
        elif name not in was.sources:
            yield Drift(part, f"{part}: {name} is not in the lock", (part, "sources"))
        elif was.sources[name].sha256 != now.sources[name].sha256:
            text = f"{part}: {name} ({_counts(was.sources[name].rows, now.sources[name].rows)})"
            yield Drift(part, text, (part, "sources", name))


def _counts(was: int | None, now: int | None) -> str:
    if was == now and was is not None:
        return f"{was:,} rows, other bytes"
    return f"{was:,} -> {now:,} rows" if None not in (was, now) else "other bytes, and a row that cannot be read"


def _settings(held: Entry, here: Entry, place: Place) -> Iterator[Drift]:
    was, now = dict(held.settings), dict(here.settings)
    if held.data is None:
        for settings in (was, now):
            settings.pop(SOURCES, None)
    for key in sorted({*was, *now}):
        if was.get(key) == now.get(key) and (key in was) == (key in now):
            continue
        usual = _neutral().get(key)
        for name, old, new in _inside(key, was.get(key, usual), now.get(key, usual)):
            where = f" ({said})" if (said := place(name) or place(key)) else ""
            yield Drift("setting", f"{name} {_value(old)} -> {_value(new)}{where}", ("settings", *_split(key, name)))


@cache
def _neutral() -> dict[str, Any]:
    """What settings have that are left out because they have it."""
    return {key: marks.get("neutral") for key, (_, marks) in flatten(Config()).items()}


def _inside(name: str, was: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """The values inside a mapping that differ, each by its own name."""
    if not isinstance(was, Mapping) and not isinstance(now, Mapping):
        if was != now:
            yield name, was, now
        return
    old, new = ((side if isinstance(side, Mapping) else {}) for side in (was, now))
    for key in sorted({*old, *new}, key=str):
        yield from _inside(f"{name}.{key}", old.get(key), new.get(key))


def _split(key: str, name: str) -> tuple[str, ...]:
    return (key, *name.removeprefix(key).split(".")[1:])


def _versions(held: Entry, here: Entry) -> Iterator[Drift]:
    for name, version in here.versions.items():
        if name not in held.versions:
            yield Drift("stage", f"stage {name}: not in the lock", ("versions",))
        elif held.versions[name] != version:
            yield Drift("stage", f"stage {name}: version {held.versions[name]} -> {version}", ("versions", name))
    for name in held.versions:
        if name not in here.versions:
            yield Drift("stage", f"stage {name}: is gone", ("versions", name))


def _fingerprints(held: Entry, here: Entry) -> Iterator[Drift]:
    """The first stage whose fingerprint is another; those behind it follow from it."""
    for name, fingerprint in here.stages.items():
        if held.stages.get(name, fingerprint) != fingerprint:
            text = f"stage {name}: fingerprint {_short(held.stages[name])} -> {_short(fingerprint)}"
            yield Drift("stage", text, ("stages", name))
            return


def _libraries(held: Entry, here: Entry) -> Iterator[Drift]:
    for name, version in here.libraries.items():
        was = held.libraries.get(name)
        if name not in held.libraries:
            yield Drift(LIBRARY, f"{name}: not in the lock", ("libraries",))
        elif was is not None and was != version:
            text = f"{name} {was} -> {version or 'not installed'}"
            remedy = "" if name == "sft-runner" else f"pip install {name}=={was}"
            yield Drift(LIBRARY, text, ("libraries", name), remedy)


def _short(value: str | None) -> str:
    return value[:SHORT] if value else "none"


def _value(value: Any) -> str:
    if value is None:
        return OPEN
    return f"{value:g}" if isinstance(value, float) else str(value)
