"""Rows for the tests of `data.formats`, and what becomes of them."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from sft_runner.data.formats import Format, choose
from sft_runner.data.row import Message, Row
from sft_runner.errors import DataError


@dataclass
class Source:
    """What `choose` looks at of a source."""

    format: str = "auto"
    columns: dict[str, Any] = field(default_factory=dict)


def turn(role: str, content: str) -> Message:
    """A chat message."""
    return {"role": role, "content": content}


ASKED = [turn("user", "q"), turn("assistant", "a")]


def row(**values: Any) -> Row:
    """A row with these columns."""
    return Row(values, "rows.jsonl", 7)


def chosen(given: Row, format: str = "auto", **columns: Any) -> Format:
    """The format by the row, with `columns` as `data.columns`."""
    return choose(Source(format, columns), given)  # type: ignore[arg-type]


def refused(given: Row, format: str = "auto", **columns: Any) -> str:
    """What the user is told about a row that cannot be read; it begins with the row's place."""
    with pytest.raises(DataError) as caught:
        chosen(given, format, **columns).example(given)
    assert caught.value.message.startswith("data.path: rows.jsonl, line 7: ")
    return caught.value.show()
