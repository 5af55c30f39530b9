"""The files that `data.path` means, a quick look at them before anything starts, and their rows with positions.

Standard library only: planning a run imports this. Reading is lazy and keeps one row in memory.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from sft_runner.config.schema import Data
from sft_runner.data import formats, python_code
from sft_runner.data.json_list import objects
from sft_runner.data.row import Row, error_at
from sft_runner.errors import DataError, suggestion

EMBEDDED = Path(__file__).parents[1] / "embedded"
SUFFIXES = (".jsonl", ".json")
SKIPPED_FOLDERS = {"__pycache__", "build", "dist", "node_modules", "site-packages"}
"""Folders whose Python files are copies, made by tools, or somebody else's."""
CHECKED_BYTES = 2 << 20
"""How far `check` looks: 2 MiB take 0.05 s."""
CHECKED_PYTHON_BYTES = 1 << 18
"""The same for Python code, which is slower to parse."""


def source_files(data: Data) -> list[Path]:
    """The files that count, sorted, as absolute paths. Raises `DataError` for a path that cannot be used."""
    path = _located(data)
    if path.is_dir():
        if data.format != "python":
            raise DataError(
                f"data.path: {path} is a folder", "name one file in it, or read Python code with data=python"
            )
        files = sorted(_python_files(path))
        if not files:
            raise DataError(f"data.path: there is no Python file below {path}", "name the folder of a code base")
        return files
    wanted = (".py",) if data.format == "python" else SUFFIXES
    if path.suffix not in wanted:
        kind = "format=python reads" if data.format == "python" else "data is read from"
        raise DataError(
            f"data.path: {path.name}: {kind} {' and '.join(wanted)} files, not '{path.suffix}'",
            "take data=python for Python code" if path.suffix == ".py" else "convert it to one JSON object a line",
        )
    return [path]


def check(data: Data) -> None:
    """Look at the first rows, so that most mistakes are told before anything starts."""
    limit = CHECKED_PYTHON_BYTES if data.format == "python" else CHECKED_BYTES
    found: formats.Format | None = None
    for row in read(data, Counter(), limit):
        found = found or formats.choose(data.format, row)
        found.messages(row)
    size = sum(path.stat().st_size for path in source_files(data))
    if found is None and size <= limit:
        raise no_rows(data)


def read(data: Data, counts: Counter[str], most_bytes: int | None = None) -> Iterator[Row]:
    """The rows in order, up to `data.limit`. `counts` is told of what is no row, such as blank lines.

    With `most_bytes` reading ends behind the row that passes this many bytes.
    """
    yield from islice(_rows(data, counts, most_bytes), data.limit)


def count_rows(data: Data) -> int | None:
    """How many rows there are at most, where this is quick to tell; for the progress only."""
    path = _located(data)
    if path.suffix != ".jsonl":
        return data.limit
    with _opened(path) as file:
        lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b"")) + 1
    return min(lines, data.limit or lines)


def content_hash(files: Sequence[Path]) -> str:
    """SHA-256 of the bytes; of several files, of their hashes and their names below the folder they share."""
    hashes = {}
    for path in files:
        with _opened(path) as file:
            hashes[path] = hashlib.file_digest(file, "sha256").hexdigest()
    if len(files) == 1:
        return hashes[files[0]]
    root = os.path.commonpath(files)
    lines = sorted(f"{os.path.relpath(path, root)}\0{digest}" for path, digest in hashes.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def no_rows(data: Data) -> DataError:
    """Nothing could be read from files that are there."""
    if data.format == "python":
        return DataError(
            f"data.path: {data.path} has no documented function to learn from",
            f"a function counts from {python_code.LEAST_BODY_LINES} lines of body "
            f"and {python_code.LEAST_DOCSTRING} characters of docstring on",
        )
    return DataError(f"data.path: {data.path} is empty", "give a file with one JSON object a line")


def _located(data: Data) -> Path:
    """Where `data.path` leads."""
    if not data.path:
        raise DataError("data.path: not set", "name what to learn from: data.path=my.jsonl")
    if data.path.startswith("embedded:"):
        name = data.path.removeprefix("embedded:")
        path = EMBEDDED / f"{name}.jsonl"
        if not path.is_file():
            raise DataError(
                f"data.path: there is no embedded data set '{name}'",
                suggestion(name, sorted(file.stem for file in EMBEDDED.glob("*.jsonl"))),
            )
        return path
    path = Path(os.path.abspath(Path(data.path).expanduser()))
    if not path.exists():
        raise DataError(f"data.path: there is no file or folder {data.path}", _sibling(path))
    return path


def _sibling(missing: Path) -> str:
    """A hint on a name beside the missing one that is almost the same."""
    folder = missing.parent
    if not folder.is_dir():
        return f"there is no folder {folder} either"
    close = get_close_matches(missing.name, [entry.name for entry in folder.iterdir()], n=1)
    return f"did you mean '{close[0]}'?" if close else "a relative path starts at the folder you are in"


def _python_files(root: Path) -> Iterator[Path]:
    """The Python files of a code base, without virtual environments and what tools made."""
    for folder, names, files in os.walk(root):
        names[:] = [
            name
            for name in names
            if not name.startswith(".")
            and name not in SKIPPED_FOLDERS
            and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
        ]
        found = (Path(folder, name) for name in files if name.endswith(".py") and not name.startswith("."))
        yield from (path for path in found if path.is_file())  # a link may lead nowhere


def _rows(data: Data, counts: Counter[str], most_bytes: int | None) -> Iterator[Row]:
    root, files = _located(data), source_files(data)
    if data.format == "python":
        yield from python_code.documented_functions(files, root, counts, most_bytes)
        return
    path = files[0]
    with _opened(path) as file:
        if path.suffix == ".json":
            for number, values in enumerate(objects(file, path.name), 1):
                yield Row(values, path.name, number, "row")
                if most_bytes and file.tell() > most_bytes:
                    return
        else:
            yield from _lines(file, path.name, counts, most_bytes)


def _lines(file: BinaryIO, name: str, counts: Counter[str], most_bytes: int | None) -> Iterator[Row]:
    """One JSON object a line; blank lines are counted, a byte-order mark is passed over."""
    done = 0
    for number, line in enumerate(file, 1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        done += len(line)
        if line.isspace() or not line:
            counts["blank_lines"] += 1
        else:
            yield Row(_object(line, name, number), name, number)
        if most_bytes and done > most_bytes:
            return


def _object(line: bytes, name: str, number: int) -> dict[str, Any]:
    try:
        values = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise error_at(name, "line", number, f"not UTF-8 at byte {error.start + 1}", "save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        hint = "rename a file that is one JSON list to .json" if number == 1 and line.strip() == b"[" else ""
        problem = f"not JSON: {error.msg} at column {error.colno}"
        raise error_at(name, "line", number, problem, hint or "write one JSON object a line") from None
    except (ValueError, RecursionError) as error:  # a number of 4,300 digits, a thousand nested lists
        raise error_at(name, "line", number, f"not readable as JSON: {error}", "mend or remove the line") from None
    if not isinstance(values, dict):
        raise error_at(name, "line", number, "not a JSON object", 'write {"instruction": ..., "output": ...}')
    return values


def _opened(path: Path) -> BufferedReader:
    try:
        return open(path, "rb")
    except OSError as error:
        raise DataError(f"data.path: {path} cannot be read: {error.strerror}", "check its permissions") from None
