"""The objects of a file that is one JSON list, one after the other, without holding the file in memory."""

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from sft_runner.data.row import error_at
from sft_runner.errors import DataError

CHUNK_BYTES = 1 << 18
UNFINISHED_CHARACTERS = 16
"""An error this close to the end of what was read may come from the cut: no JSON word or escape is longer."""


def objects(file: BinaryIO, name: str) -> Iterator[dict[str, Any]]:
    """Each object of the list. Raises `DataError` that names the row and the line for anything else."""
    buffer = _Buffer(file, name)
    first = buffer.peek()
    if first != "[":
        if not first:
            return
        hint = "name a file with one object a line .jsonl" if first == "{" else "write [{...}, {...}]"
        raise error_at(name, "line", buffer.line(), "not a JSON list of objects", hint)
    buffer.advance()
    row, mark = 0, buffer.peek()
    while mark != "]":
        row += 1
        if mark != "{":
            raise buffer.error(row, "not a JSON object" if mark else _ENDS)
        yield buffer.take(row)
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


class _Buffer:
    """The part of the file that is being read, as text."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file, self.name = file, name
        self.text, self.position, self.ended = "", 0, False
        self.lines = 1  # number of the line at `text[0]`
        self.decoder = json.JSONDecoder()
        self.utf8 = codecs.getincrementaldecoder("utf-8-sig")()

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

    def take(self, row: int) -> dict[str, Any]:
        """The object that begins here."""
        size = CHUNK_BYTES
        while True:
            try:
                values, self.position = self.decoder.raw_decode(self.text, self.position)
                return dict(values)
            except json.JSONDecodeError as error:
                margin = 0 if self.ended else UNFINISHED_CHARACTERS
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self.text.rstrip()) - margin
                if not cut or self.ended:
                    raise self.error(row, _ENDS if cut else f"not JSON: {error.msg}", error.pos) from None
            except (ValueError, RecursionError) as error:  # a number of 4,300 digits, a thousand nested lists
                raise self.error(row, f"not readable as JSON: {error}") from None
            self._fill(size)
            size *= 2  # keeps the time for one huge row linear in its length

    def line(self, position: int | None = None) -> int:
        """The line of the file at a position in the text."""
        return self.lines + self.text.count("\n", 0, self.position if position is None else position)

    def error(self, row: int, problem: str, position: int | None = None) -> DataError:
        """What is wrong in a row, with the line where it shows."""
        return error_at(self.name, "row", row, f"line {self.line(position)}: {problem}", "write [{...}, {...}]")

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
