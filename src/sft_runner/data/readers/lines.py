"""The lines of a text file with their numbers. A line that cannot be read is an error, but not the end."""

from typing import BinaryIO

from sft_runner.data.row import error_at

LONGEST_LINE = 64 << 20
"""Bytes of one line; a longer one is a file that is not what its name says, and is never held in memory."""


class Lines:
    """Iterates over the lines with their ends, as text. After an error it goes on with the next line."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.number = 0
        """Number of the line that was read last, from 1."""
        self.bytes = 0
        """Bytes read so far."""
        self.marked = False
        """Whether the file begins with a byte-order mark, which is no part of the first line."""
        self._file, self._name, self._inside = file, name, False

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        """The next line. Raises `DataError` for one that is not UTF-8 or longer than `LONGEST_LINE`."""
        while self._inside:
            self._inside = self._long(self._read())
        raw = self._read()
        if not raw:
            raise StopIteration
        self.number += 1
        self._inside = self._long(raw)
        if self._inside:
            problem = f"longer than {LONGEST_LINE >> 20} MiB"
            raise error_at(self._name, "line", self.number, problem, "divide the file into lines of one row each")
        try:
            line = raw.decode()
        except UnicodeDecodeError as error:
            problem = f"not UTF-8 at byte {error.start + 1}"
            raise error_at(self._name, "line", self.number, problem, "save the file as UTF-8") from None
        if self.number == 1 and line.startswith("\ufeff"):
            self.marked = True
            return line[1:]
        return line

    def _read(self) -> bytes:
        raw = self._file.readline(LONGEST_LINE + 1)
        self.bytes += len(raw)
        return raw

    @staticmethod
    def _long(raw: bytes) -> bool:
        """Whether the line goes on behind what was read of it."""
        return len(raw) > LONGEST_LINE and not raw.endswith(b"\n")


def is_blank(line: str) -> bool:
    """Whether nothing stands on a line; white space other than ASCII's is something."""
    return not line.strip(" \t\r\n")
