"""The rows of one batch on their way to the disk: what is written, and what became of the others."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from typing import TYPE_CHECKING, Any

from sft_runner.data.row import Dropped, Example, Row
from sft_runner.data.template import Encoded

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

EXAMPLES = 3
"""Places that a batch names for each reason or suspicion."""


@dataclass(kw_only=True)
class Counts:
    """What became of some rows, in numbers."""

    read: int = 0
    """Rows read."""
    used: int = 0
    """Rows used."""
    added: int = 0
    """Rows beyond the first that were made of one."""
    truncated: int = 0
    """Used rows of which something was cut off."""
    examples_used: int = 0
    """Rows that became tokens, before their length was looked at."""
    characters: int = 0
    """Characters of these."""
    formats: Counter[str] = field(default_factory=Counter)
    """Rows by format."""
    dropped: Counter[Dropped] = field(default_factory=Counter)
    """Rows not used, by reason."""

    def add(self, other: "Counts") -> None:
        """Count other rows too."""
        for item in fields(Counts):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))


@dataclass
class Batch(Counts):
    """What became of the rows of one batch."""

    source: int
    """Index of the source."""
    table: bytes = b""
    """The used rows as one Arrow record batch."""
    suspects: Counter[str] = field(default_factory=Counter)
    """Rows that look wrong, by kind."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """Places of the first rows dropped for a reason, or suspected of a kind."""

    def note(self, kind: str, row: Row) -> None:
        """Remember where something was seen."""
        places = self.examples.setdefault(kind, [])
        if len(places) < EXAMPLES and row.source not in places:
            places.append(row.source)

    def drop(self, row: Row, reason: Dropped) -> None:
        """Count a row that is not used."""
        self.dropped[reason] += 1
        self.note(reason, row)


@dataclass(slots=True)
class Used:
    """One row as it is written."""

    encoded: Encoded
    """Ids and labels."""
    example: Example
    """What it was made of."""
    messages: str
    """Its messages as JSON."""
    tools: str
    """Its tools as JSON, or empty."""
    rejected: str
    """Preference data: the answer that was not chosen, as JSON, or empty."""
    digest: int
    """64 bits of a hash of what it says; at a million rows two would meet by chance once in 30 million runs."""
    prompt: int
    """The same of its prompt, without regard to case and white space."""
    answer: int
    """The same of its last message."""
    rank: int
    """Its place in the order in which rows are held out."""


def schema() -> "pa.Schema":
    """The columns of the file with all rows; the last seven serve the choice between rows."""
    import pyarrow as pa

    token_ids, text, number = pa.list_(pa.int32()), pa.string(), pa.uint64()
    return pa.schema(
        {
            **{"input_ids": token_ids, "labels": token_ids, "messages": text, "tools": text},
            **{"prompt_length": pa.int32(), "source": text, "rejected": text},
            **{"origin": pa.int32(), "trained": pa.int32(), "only_asked": pa.bool_()},
            **{"digest": number, "prompt": number, "answer": number, "rank": number},
        }
    )


def record_batch(source: int, used: Sequence[Used]) -> bytes:
    """The rows as a serialised Arrow record batch."""
    import numpy as np
    import pyarrow as pa

    def lists(rows: Sequence[list[int]]) -> pa.Array:
        offsets = np.zeros(len(rows) + 1, np.int32)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        values = np.fromiter(chain.from_iterable(rows), np.int32, offsets[-1])
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))

    arrays: list[Any] = [
        lists([row.encoded.input_ids for row in used]),
        lists([row.encoded.labels for row in used]),
        [row.messages for row in used],
        [row.tools for row in used],
        [row.encoded.prompt_length for row in used],
        [row.example.row.source for row in used],
        [row.rejected for row in used],
        [source] * len(used),
        [row.encoded.trained for row in used],
        [row.example.row.only_asked for row in used],
        [row.digest for row in used],
        [row.prompt for row in used],
        [row.answer for row in used],
        [row.rank for row in used],
    ]
    columns = schema()
    typed = [
        pa.array(values, kind.type) if isinstance(values, list) else values
        for values, kind in zip(arrays, columns, strict=True)
    ]
    found: bytes = pa.record_batch(typed, columns).serialize().to_pybytes()
    return found


def as_json(value: list[dict[str, Any]]) -> str:
    """Messages or tools as they are written; characters stay readable."""
    return json.dumps(value, ensure_ascii=False)
