"""A file with one JSON object a line."""

from collections.abc import Iterator
from json import JSONDecodeError
from typing import Any, BinaryIO

from sft_runner.data.readers.faults import BYTE_ORDER_MARKS, MALFORMED, Faults
from sft_runner.data.readers.json_text import JsonDecoder, problem
from sft_runner.data.readers.lines import Lines, is_blank
from sft_runner.data.row import Row, error_at
from sft_runner.errors import DataError


def rows(file: BinaryIO, name: str, faults: Faults, most_bytes: int | None = None) -> Iterator[Row]:
    """The rows by line. Blank lines at the end of the file are nothing, between rows they are a fault.

    With `most_bytes` reading ends behind the line that passes this many bytes.
    """
    lines, decoder = Lines(file, name), JsonDecoder()
    blank: list[int] = []
    while most_bytes is None or lines.bytes <= most_bytes:
        try:
            line = next(lines, None)
            if line is None:
                return
            if lines.marked and lines.number == 1:
                faults.meet(BYTE_ORDER_MARKS, f"{name}:1", byte_order_mark(name))
            if is_blank(line):
                blank.append(lines.number)
                continue
            faults.meet_blank(name, blank)
            row = Row(_object(decoder, line, name, lines.number), name, lines.number)
        except DataError as error:
            faults.meet(MALFORMED, f"{name}:{lines.number}", error)
            continue
        yield row


def byte_order_mark(name: str) -> DataError:
    """The error for a JSON file that begins with U+FEFF."""
    problem = "a byte-order mark before the text, which JSON does not allow"
    return error_at(name, "line", 1, problem, "save the file as UTF-8 without it, or pass over it: data.bad_rows=drop")


def _object(decoder: JsonDecoder, line: str, name: str, number: int) -> dict[str, Any]:
    text = line.strip(" \t\r\n")
    try:
        values, end = decoder.decode(text)
        if end < len(text):
            raise JSONDecodeError("text behind the object", text, end)
    except JSONDecodeError as error:
        column = error.pos + 1 + len(line) - len(line.lstrip(" \t\r\n"))
        raise error_at(
            name, "line", number, f"{problem(error, text)} at column {column}", _hint(text, number)
        ) from None
    except (ValueError, RecursionError) as error:
        raise error_at(name, "line", number, problem(error), "mend or remove the line") from None
    if decoder.fault:
        raise error_at(name, "line", number, decoder.fault, "mend the line")
    if not isinstance(values, dict):
        raise error_at(name, "line", number, "not a JSON object", _hint(text, number))
    return values


def _hint(text: str, number: int) -> str:
    if number == 1 and text.startswith("["):
        return "rename a file that is one JSON list to .json"
    if text == "{":
        return "write each object on one line, or all as one list in a .json file"
    return "write one JSON object a line, without commas between the lines"
