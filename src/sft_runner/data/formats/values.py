"""Checks that all formats make of a row's values. `place` is where a value stands in its row: `messages[2].content`."""

import json
from typing import Any

from sft_runner.data.row import Message, Row


def text(row: Row, place: str, value: Any) -> str:
    """A value that must be text, and text that a tokenizer can take. Raises `DataError` for anything else."""
    if not isinstance(value, str):
        raise row.error(f"{place} is {kind(value)}, not text", "write it as a string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise row.error(
                f"{place} has half a character at position {error.start}: {value[error.start]!r}",
                "a surrogate needs its other half; write the text again as UTF-8",
            ) from None
    return value


def optional_text(row: Row, column: str) -> str:
    """The text of a column; empty where the column is missing or null."""
    value = row.values.get(column)
    return "" if value is None else text(row, column, value)


def system(row: Row) -> list[Message]:
    """The message that the column `system` gives, if it says anything."""
    said = optional_text(row, "system")
    return [{"role": "system", "content": said}] if said else []


def listed(row: Row, place: str, value: Any, of: str, example: str) -> list[Any]:
    """A value that must be a list with something in it, or JSON text of one, which is all that a CSV file can hold.

    `of` says what it lists, and `example` how one of them is written, for messages.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = from_json(row, place, value, f"[{example}, ...]")
    if not isinstance(value, list):
        raise row.error(f"{place} is {kind(value)}, not a list of {of}", f"write [{example}, ...]")
    if not value:
        raise row.error(f"{place} is an empty list", f"write [{example}, ...], or leave the row out")
    return value


def from_json(row: Row, place: str, written: str, expected: str) -> Any:
    """What a text says as JSON; `expected` is an example for the hint."""
    try:
        return json.loads(written)
    except ValueError as error:
        raise row.error(f"{place} is not JSON: {error}", f"write {expected}") from None
    except RecursionError:
        raise row.error(f"{place} is not readable as JSON: nested too deeply", f"write {expected}") from None


def to_json(row: Row, place: str, value: Any) -> str:
    """An object as JSON text, as chat templates will write it."""
    try:
        return text(row, place, json.dumps(value, ensure_ascii=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise row.error(f"{place} cannot be written as JSON: {error}", "write it as JSON text") from None


def kind(value: Any) -> str:
    """What a value is, in words."""
    if isinstance(value, bool):
        return "true or false"
    kinds = {type(None): "null", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)
