"""A file that is one JSON list of objects, read without holding the file in memory."""

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from sft_runner.data.readers.faults import BYTE_ORDER_MARKS, MALFORMED, Faults
from sft_runner.data.readers.json_lines import byte_order_mark
from sft_runner.data.readers.json_text import JsonDecoder, problem
from sft_runner.data.readers.lines import LONGEST_LINE
from sft_runner.data.row import Row, error_at
from sft_runner.errors import DataError

CHUNK_BYTES = 1 << 18
LONGEST_ROW = LONGEST_LINE
"""Characters of one row."""
UNFINISHED_CHARACTERS = 16
"""An error this close to the end of what was read may come from the cut: no JSON word or escape is longer."""


def rows(file: BinaryIO, name: str, faults: Faults, most_bytes: int | None = None) -> Iterator[Row]:
    """The objects of the list, by row. Raises `DataError` that names the row and the line for anything else.

    Where the text is no JSON, it cannot be told where the next row begins, so that is an error whatever `faults` says.
    """
    buffer = _Buffer(file, name)
    if buffer.peek() == "\ufeff":
        faults.meet(BYTE_ORDER_MARKS, f"{name}:1", byte_order_mark(name))
        buffer.advance()
    first = buffer.peek()
    if not first:
        return
    if first != "[":
        raise error_at(name, "line", buffer.line(), "not a JSON list of objects", buffer.hint())
    buffer.advance()
    row, mark = 0, buffer.peek()
    while mark != "]":
        row += 1
        if not mark:
            raise buffer.error(row, _ENDS)
        values = buffer.take(row)
        wrong = buffer.decoder.fault if isinstance(values, dict) else "not a JSON object"
        if wrong:
            faults.meet(MALFORMED, f"{name}:{row}", buffer.error(row, wrong, buffer.start))
        else:
            yield Row(values, name, row, "row")
        if most_bytes and file.tell() > most_bytes:
            return
        mark = buffer.peek()
        if mark == ",":
            buffer.advance()
            mark = buffer.peek()
            if mark == "]":
                raise buffer.error(row, "a comma without a row behind it")
        elif mark != "]":
            raise buffer.error(row, f"expected ',' or ']' behind the row, found {mark!r}" if mark else _ENDS)
    buffer.advance()
    if buffer.peek():
        raise buffer.error(row, "text behind the end of the list")


_ENDS = "the file ends in the middle of the list"
_HINT = "write [{...}, {...}]"


class _Buffer:
    """The part of the file that is being read, as text."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file, self.name = file, name
        self.text, self.position, self.ended = "", 0, False
        self.start = 0  # where in the text the value began that was taken last
        self.lines = 1  # number of the line at `text[0]`
        self.decoder = JsonDecoder()
        self.utf8 = codecs.getincrementaldecoder("utf-8")()

    def peek(self) -> str:
        """The next character that is no white space; empty at the end of the file."""
        while True:
            while self.position < len(self.text):
                character = self.text[self.position]
                if character not in " \t\r\n":
                    return character
                self.position += 1
            if self.ended:
                return ""
            self._fill(CHUNK_BYTES)

    def advance(self) -> None:
        """Pass over the character that `peek` showed."""
        self.position += 1

    def take(self, row: int) -> Any:
        """The value that begins here."""
        size = CHUNK_BYTES
        while True:
            try:
                value, end = self.decoder.decode(self.text, self.position)
                if end < len(self.text) or self.ended:  # else a number may go on behind the cut
                    self.start, self.position = self.position, end
                    return value
            except json.JSONDecodeError as error:
                margin = 0 if self.ended else UNFINISHED_CHARACTERS
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self.text.rstrip()) - margin
                if not cut or self.ended:
                    raise self.error(row, _ENDS if cut else problem(error, self.text), error.pos) from None
            except (ValueError, RecursionError) as error:
                raise self.error(row, problem(error)) from None
            if len(self.text) - self.position > LONGEST_ROW:
                raise self.error(row, f"longer than {LONGEST_ROW >> 20} MiB")
            self._fill(size)
            size *= 2  # keeps the time for one huge row linear in its length

    def hint(self) -> str:
        """What to do with a file that is no list."""
        try:
            _, end = self.decoder.decode(self.text, self.position)
        except (ValueError, RecursionError):
            return _HINT
        if self.text[end:].lstrip().startswith("{"):
            return "name a file with one object a line .jsonl"
        return f"{_HINT}, not an object around it; name a file with one object a line .jsonl"

    def line(self, position: int | None = None) -> int:
        """The line of the file at a position in the text."""
        return self.lines + self.text.count("\n", 0, self.position if position is None else position)

    def error(self, row: int, problem: str, position: int | None = None) -> DataError:
        """What is wrong in a row, with the line where it shows."""
        return error_at(self.name, "row", row, f"line {self.line(position)}: {problem}", _HINT)

    def _fill(self, size: int) -> None:
        """Read on, and forget what was taken."""
        chunk = self.file.read(size)
        self.ended = not chunk
        try:
            more = self.utf8.decode(chunk, final=self.ended)
        except UnicodeDecodeError as error:
            line = self.line(len(self.text)) + error.object.count(b"\n", 0, error.start)
            raise error_at(self.name, "line", line, "not UTF-8", "save the file as UTF-8") from None
        self.lines += self.text.count("\n", 0, self.position)
        self.text, self.position = self.text[self.position :] + more, 0
