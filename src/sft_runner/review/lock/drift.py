"""What is not as a lock says, each thing by its name."""

import shlex
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


def drifts(held: Entry, found: Found, place: Place = lambda key: "", left_open: bool = True) -> list[Drift]:
    """Everything that is not as it is held; what is unknown here is passed over. Data that the lock leaves open, and a
    package of which it holds no version, may be anything, unless they are not to be `left_open`."""
    here = found.entry
    drifted = [*_model(held, found)]
    if held.data or not left_open:
        drifted += _rows("data", held.data, here.data, found)
    drifted += _rows("sets", held.sets, here.sets, found)
    drifted += _settings(held, here, place)
    drifted += _versions(held, here)
    if all(one.keys[-1].startswith(GATES) for one in drifted):  # else it is plain why a fingerprint is another
        drifted += _fingerprints(held, here)
    return [*drifted, *_libraries(held, here, left_open)]


def _model(held: Entry, found: Found) -> Iterator[Drift]:
    was, now = held.model, found.entry.model
    fetched = was.commit is not None and (was.name, was.commit) == (now.name, now.commit)
    again = f"hf download {was.name} --revision {was.commit} --force-download" if fetched else ""
    folders = was.commit is None and now.commit is None and "model" not in found.unknown
    if was.name != now.name and not (folders and was.sha256 == now.sha256):  # a folder is its bytes
        remedy = shlex.quote(f"model.name={was.name}")
        yield Drift("model", f"model: {was.name} -> {now.name}", ("model", "name"), remedy)
    elif was.commit != now.commit and "model" not in found.unknown:
        remedy = f"model.revision={was.commit}" if was.commit else ""
        text = f"model: commit {_short(was.commit)} -> {_short(now.commit)}"
        yield Drift("model", text, ("model", "commit"), remedy)
    elif None not in (was.sha256, now.sha256) and was.sha256 != now.sha256:
        text = f"model: {was.name}: weights or config.json {_short(was.sha256)} -> {_short(now.sha256)}"
        yield Drift("model", text, ("model", "sha256"), again)
    elif was.own_code != now.own_code and "tokenizer" not in found.unknown:
        text = f"model: {'its own code' if was.own_code else 'transformers'} -> "
        yield Drift("model", text + ("its own code" if now.own_code else "transformers"), ("model",))
    for part in ("tokenizer", "template"):
        before, after = getattr(held, part), getattr(found.entry, part)
        if None not in (before, after) and before != after:
            yield Drift(part, f"{part}: {_short(before)} -> {_short(after)}", (part,), again)


def _rows(part: str, was: Held | None, now: Held | None, found: Found) -> Iterator[Drift]:
    if part in found.unknown:
        return
    if was is None or now is None:
        if was is not now:
            empty = OPEN if part == "data" else "none"
            text = f"{part}: {', '.join(was.sources) if was else empty} -> {', '.join(now.sources) if now else empty}"
            yield Drift(part, text, (part,))
        return
    if was.sha256 == now.sha256 and len(was.sources) == len(now.sources):
        for name, before in was.sources.items():
            if before != (after := now.sources.get(name, before)):  # somebody wrote into the lock
                yield Drift(part, f"{part}: {name} ({_counts(before.rows, after.rows)})", (part, "sources", name))
        return
    called = {
        old: new
        for old, before in was.sources.items()
        for new, after in now.sources.items()
        if old not in now.sources and new not in was.sources and before.sha256 == after.sha256
    }
    for old, new in called.items():
        yield Drift(part, f"{part}: {old} is called {new}", (part, "sources", old))
    if len(was.sources) == len(now.sources) == 1 and not called:
        ((old, before),), ((new, after),) = was.sources.items(), now.sources.items()
        named = new if old == new else f"{old} -> {new}"
        ends = "line ends" if (part, new) in found.line_ends else "bytes"
        text = f"{part}: {named} ({_counts(before.rows, after.rows, ends)})"
        yield Drift(part, text, (part, "sources", old))
        return
    for name in sorted({*was.sources, *now.sources} - {*called, *called.values()}):
        if name not in now.sources:
            yield Drift(part, f"{part}: {name} is gone", (part, "sources", name))
        elif name not in was.sources:
            yield Drift(part, f"{part}: {name} is not in the lock", (part, "sources"))
        elif was.sources[name].sha256 != now.sources[name].sha256:
            ends = "line ends" if (part, name) in found.line_ends else "bytes"
            text = f"{part}: {name} ({_counts(was.sources[name].rows, now.sources[name].rows, ends)})"
            yield Drift(part, text, (part, "sources", name))


def _counts(was: int | None, now: int | None, what: str = "bytes") -> str:
    if was == now and was is not None:
        return f"{was:,} rows, other {what}"
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


def _libraries(held: Entry, here: Entry, left_open: bool) -> Iterator[Drift]:
    for name, version in here.libraries.items():
        was = held.libraries.get(name)
        if name not in held.libraries:
            yield Drift(LIBRARY, f"{name}: not in the lock", ("libraries",))
        elif was != version and not (was is None and left_open):
            text = f"{name} {was or 'not held'} -> {version or 'not installed'}"
            remedy = f"pip install {name}=={was}" if was and name != "sft-runner" else ""
            yield Drift(LIBRARY, text, ("libraries", name), remedy)


def _short(value: str | None) -> str:
    return value[:SHORT] if value else "none"


def _value(value: Any) -> str:
    if value is None:
        return OPEN
    return f"{value:.12g}" if isinstance(value, float) else str(value)
