"""Which reader a file has, by its suffix, and its rows."""

import gzip
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, cast

from sft_runner.data.readers import csv_table, json_lines, json_list, parquet_table
from sft_runner.data.readers.faults import Faults
from sft_runner.data.row import Row, error_at
from sft_runner.errors import DataError

TEXT = {".jsonl": json_lines.rows, ".ndjson": json_lines.rows, ".json": json_list.rows, ".csv": csv_table.rows}
"""Readers of text files, which may be compressed."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How a file begins that stands for another one, as in a repository that was fetched without its large files."""
SUFFIXES = (*TEXT, ".parquet", *(f"{suffix}.gz" for suffix in TEXT))


def rows(path: Path, name: str, faults: Faults, most_bytes: int | None = None) -> Iterator[Row]:
    """The rows of a file that is called `name` in messages.

    With `most_bytes` reading ends behind the first so many bytes, uncompressed.
    """
    kind, packed = suffix_of(path)
    unit, last = "row" if kind in (".json", ".parquet") else "line", 0
    refuse_pointer(path, name, unit)
    if kind == ".parquet":
        yield from parquet_table.rows(path, name, faults, most_bytes)
        return
    with opened(path) as plain, cast(BinaryIO, gzip.open(plain)) if packed else plain as file:
        try:
            for row in TEXT[kind](file, name, faults, most_bytes):
                last = row.number
                yield row
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            problem = "not a gzip file" if "Not a gzipped file" in str(error) else "the gzip file is damaged or cut off"
            raise error_at(name, unit, last + 1, problem, "make or fetch the file again") from None


def refuse_pointer(path: Path, name: str, unit: str = "line") -> None:
    """Raise `DataError` for a file that only stands for the one with the data."""
    with opened(path) as plain:
        if plain.peek(len(LFS_POINTER)).startswith(LFS_POINTER):
            raise error_at(name, unit, 1, "a pointer of Git LFS, not the data itself", "fetch it with git lfs pull")


def count(path: Path) -> int | None:
    """About how many rows there are, where that is quick to tell."""
    kind, packed = suffix_of(path)
    if kind == ".parquet":
        return parquet_table.count(path)
    if packed or TEXT[kind] is not json_lines.rows:
        return None
    with opened(path) as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b"")) + 1


def opened(path: Path) -> BufferedReader:
    """The file's bytes as they are."""
    try:
        return open(path, "rb")
    except OSError as error:
        raise DataError(f"data.path: {path} cannot be read: {error.strerror}", "check its permissions") from None


def suffix_of(path: Path) -> tuple[str, bool]:
    """The suffix that tells the reader, and whether the file is compressed."""
    name = path.name.lower()
    plain = name.removesuffix(".gz")
    return Path(plain).suffix, plain != name
