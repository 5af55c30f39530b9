"""A CSV file with a header, as spreadsheets and data frames write it."""

import csv
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

from sft_runner.data.readers.faults import MALFORMED, Faults
from sft_runner.data.readers.lines import Lines, is_blank
from sft_runner.data.row import Row, error_at
from sft_runner.errors import DataError

SEPARATORS = ",;\t"
"""Spreadsheets write the second one where the comma is the decimal point."""
LONGEST_CELL = 16 << 20
"""Characters of one cell; a longer one comes from a quote that is never closed."""
QUOTE = "put text that holds a separator, a quote or a line break in double quotes"
"""What to do with a record that is divided in another way than was meant."""


def rows(file: BinaryIO, name: str, faults: Faults, most_bytes: int | None = None) -> Iterator[Row]:
    """The records, each numbered by the line on which it begins; an empty cell is a missing value, None.

    A byte-order mark is passed over. A fault in a record over several lines is always an error: a quote may be open, so
    nobody knows where the next record begins and how many are lost.

    With `most_bytes` reading ends behind the record that passes this many bytes.
    """
    lines = Lines(file, name)
    first = next(lines, None)
    if first is None:
        return
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(chain([first], lines), delimiter=_separator(first), strict=True)
    header = _header(reader, first, name)
    blank: list[int] = []
    while most_bytes is None or lines.bytes <= most_bytes:
        start = lines.number + 1
        try:
            cells = next(reader, None)
        except (csv.Error, DataError) as error:
            fault = error if isinstance(error, DataError) else _not_csv(name, start, error)
            if lines.number > start:
                raise fault from None
            faults.meet(MALFORMED, f"{name}:{start}", fault)
            continue
        if cells is None:
            return
        if not cells:
            blank.append(start)
            continue
        faults.meet_blank(name, blank)
        if len(cells) == len(header):
            yield Row({column: cell or None for column, cell in zip(header, cells, strict=True)}, name, start)
        else:
            problem = f"{_cells(len(cells))}, the header has {len(header)}"
            faults.meet(MALFORMED, f"{name}:{start}", error_at(name, "line", start, problem, QUOTE))


def _separator(header: str) -> str:
    """The first separator that makes columns of the header; what is wrong with the header is told by `_header`."""
    for separator in SEPARATORS:
        try:
            if len(next(csv.reader([header], delimiter=separator))) > 1:
                return separator
        except csv.Error:
            return SEPARATORS[0]
    return SEPARATORS[0]


def _header(reader: "Iterator[list[str]]", first: str, name: str) -> list[str]:
    """The names of the columns. What is wrong with them is wrong with every row, so it is always an error."""
    if is_blank(first):
        raise error_at(name, "line", 1, "a blank line", "begin the file with the names of the columns")
    try:
        header = next(reader)
    except csv.Error as error:
        raise _not_csv(name, 1, error) from None
    twice = next((column for column in header if header.count(column) > 1), None)
    if twice is not None:
        problem = f"the column {twice!r} stands twice in the header, so one of its values would be lost"
        raise error_at(name, "line", 1, problem, "rename or remove one of them")
    return header


def _not_csv(name: str, line: int, error: csv.Error) -> DataError:
    text = str(error)
    if "end of data" in text or "field limit" in text:
        return error_at(name, "line", line, "a double quote that is not closed", "close it; inside a cell write two")
    return error_at(name, "line", line, f"not CSV: {text}", QUOTE)


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"
