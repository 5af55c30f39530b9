"""One thing to learn from, as `data.path` or an entry of `data.sources` names it."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sft_runner.config.schema import FORMATS, Data
from sft_runner.data import splitting
from sft_runner.data.sources.address import address_of
from sft_runner.errors import DataError, MachineError, UnknownName, UserError, raise_all, suggestion


@dataclass(frozen=True)
class Source:
    """Where rows come from, and how many of them are used."""

    name: str
    """Its key in `data.sources`; for `data.path` the file's or folder's name."""
    path: str
    """As written."""
    format: str = "auto"
    """How a row becomes an example; its own or `data.format`."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """The format's column -> the file's; its own or `data.columns`."""
    limit: int | None = None
    """Only the first rows are read."""
    cap: int | None = None
    """At most so many rows are used, drawn by `data.seed`."""
    weight: float = 1.0
    """Copies of each row in an epoch; below 1 a share of the rows."""
    held_out: float | None = None
    """Its own share (below 1) or number of rows to hold out, `math.inf` for all; None leaves it to `data.held_out`."""
    key: str = "data.path"
    """What the user wrote it under, for messages."""


def sources_of(data: Data) -> list[Source]:
    """All sources, sorted by name, because the order of keys in a mapping says nothing.

    Raises `UserError` for every key that is unknown or has a value of the wrong kind, all at once.
    """
    if data.path and data.sources:
        raise DataError(
            "data.path: set beside data.sources, and only one of them can be meant",
            "name it in data.sources too, or leave one out: data.path=null",
        )
    if data.sources:
        errors: list[UserError] = []
        found = [_checked(str(name), entry, data, errors) for name, entry in sorted(data.sources.items())]
        raise_all(errors)
        return [source for source in found if source]
    if not data.path:
        raise DataError("data.path: not set", "name what to learn from: data.path=my.jsonl")
    return [Source(address_of(data.path).name, data.path, data.format, data.columns, data.limit)]


@contextmanager
def told_of(source: Source) -> Iterator[None]:
    """Errors from inside name the key under which the user wrote the source."""
    try:
        yield
    except (DataError, MachineError) as error:
        if error.message.startswith("data.path: "):
            error.message = source.key + error.message.removeprefix("data.path")
            error.args = (error.message,)
        raise


KINDS = {
    "path": "a path or an address",
    "format": "auto or the name of a format",
    "columns": "a mapping of columns",
    "limit": "a whole number from 1 on",
    "cap": "a whole number from 1 on",
    "weight": "a number above 0",
    "held_out": "a share below 1, a number of rows, or all",
}
"""Key of an entry of `data.sources` -> what its value is."""


def _checked(name: str, entry: Any, data: Data, errors: list[UserError]) -> Source | None:
    """The source that an entry describes; what is wrong with it goes to `errors`."""
    key, before = f"{data.told_as}.{name}", len(errors)
    if not isinstance(entry, Mapping):
        errors.append(DataError(f"{key}: {entry!r} is no mapping", f"write {name}: {{path: my.jsonl}}"))
        return None
    values = {str(sub): value for sub, value in entry.items() if value is not None}
    for sub, value in values.items():
        if sub not in KINDS:
            errors.append(UnknownName("the key", f"{key}.{sub}", [f"{key}.{known}" for known in KINDS]))
        elif not _fits(sub, value):
            errors.append(DataError(f"{key}.{sub}: {value!r} is not {KINDS[sub]}", _hint(sub, value)))
    if "path" not in values:
        errors.append(DataError(f"{key}.path: not set", f"write {name}: {{path: my.jsonl}}"))
    if len(errors) > before:
        return None
    if values.get("held_out") == "all":
        values["held_out"] = math.inf
    shared = {"format": data.format, "columns": data.columns, "limit": data.limit}
    return Source(**shared | values, name=name, key=key)


def _fits(sub: str, value: Any) -> bool:
    """Whether a value is of the kind that its key takes."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if sub in ("limit", "cap"):
        return number and isinstance(value, int) and value >= 1
    if sub == "weight":
        return number and 0 < value < math.inf
    if sub == "held_out":
        return value == "all" or (number and 0 <= value < math.inf and splitting.mistake(value, sub) is None)
    if sub == "columns":
        return isinstance(value, Mapping)
    if sub == "format":
        return value in ("auto", *FORMATS)
    return isinstance(value, str) and bool(value)


def _hint(sub: str, value: Any) -> str:
    return suggestion(str(value), ("auto", *FORMATS)) if sub == "format" else ""
