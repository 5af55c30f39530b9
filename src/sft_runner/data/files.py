"""The door to the user's data: which files count, their hash, a quick look at them, and their rows.

Planning imports this, so it imports nothing heavy. Reading is lazy and keeps one row in memory.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from sft_runner.config.schema import Data
from sft_runner.config.schema_data import TEMPLATE_FILES
from sft_runner.data.readers import file as reader
from sft_runner.data.readers.faults import MALFORMED, Faults
from sft_runner.data.row import Row
from sft_runner.data.sources import Source, sources_of, told_of
from sft_runner.data.sources.address import address_of
from sft_runner.data.sources.content import Content, content_of
from sft_runner.errors import DataError, MachineError, UserError, raise_all

CHECKED_BYTES = 2 << 20
"""How far `check` looks into the rows of a source: 2 MiB take 0.05 s."""
CHECKED_SLOW_BYTES = 1 << 18
"""The same for documents and code, which are slower to parse."""


def source_files(data: Data) -> list[Path]:
    """The files that count, source by source, as absolute paths, and the template's if it is one.

    Raises `UserError` for sources that cannot be used, all at once. One that is not fetched yet has no files.
    """
    files = [path for _, content in _contents(data) if content for path in content.files]
    template = _template(data)
    return [*files, template] if template else files


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with reader.opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(data: Data, of: Callable[[Path], str] = file_hash) -> str:
    """One hash for everything that is read, of the bytes and of the names below each folder, not of the place.

    `of` gives the hash of one file. Raises `MachineError` while a source is not fetched.
    """
    parts: list[str] = []
    for source, content in _contents(data):
        if content is None:
            raise _not_fetched(source)
        parts.append(f"{source.name if data.sources else ''}\0{content.digest(of)}")
    template = _template(data)
    if template:
        parts.append(f"data.template\0{of(template)}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def check(data: Data) -> None:
    """Look at the first rows of each source that is here, so that most mistakes are told before anything starts.

    Raises `UserError` with what is wrong in all sources.
    """
    errors: list[UserError] = []
    for source, content in _contents(data):
        if content:
            try:
                _check(source, content, data)
            except UserError as error:
                errors.append(error)
    raise_all(errors)


def read(
    source: Source,
    data: Data,
    counts: Counter[str],
    most_bytes: int | None = None,
    places: dict[str, list[str]] | None = None,
) -> Iterator[Row]:
    """The rows of a source in order, up to `source.limit`. `counts` is told of what is no row, such as blank lines,
    and under `malformed` of the rows that `data.bad_rows=drop` leaves out; `places` is told under the same names where
    the first of them are, such as `train.jsonl:7`.

    With `most_bytes` reading ends behind the row that passes this many bytes. Raises `MachineError` for a source that
    is not fetched.
    """
    with told_of(source):
        content = content_of(address_of(source.path), source.format)
        if content is None:
            raise _not_fetched(source)
        if source.held_out is not None:
            data = replace(data, held_out=source.held_out)
        faults = Faults(counts, data.bad_rows == "drop", {} if places is None else places)
        yield from islice(_rows(content, data, faults, most_bytes), source.limit or data.limit)


def first_row(source: Source, data: Data, counts: Counter[str]) -> Row | None:
    """The row that tells which format a source has: the first one, or with `data.bad_rows=drop` the first one that a
    format recognises, if any is. None where there are no rows; `counts` is told as in `read`.
    """
    return _telling(source, data, read(source, data, counts))


def count_rows(source: Source, data: Data) -> int | None:
    """About how many rows there are at most, where this is quick to tell; for the progress only."""
    limit = source.limit or data.limit
    with told_of(source):
        content = content_of(address_of(source.path), source.format)
        if content is None or content.kind != "rows":
            return limit
        total = 0
        for path in content.files:
            count = reader.count(path)
            if count is None:
                return limit
            total += count
    return min(total, limit or total)


def missing(data: Data) -> list[str]:
    """The addresses of sources that are not on this machine yet."""
    return [source.path for source, content in _contents(data) if content is None]


def fetch(data: Data) -> None:
    """Bring all sources to this machine. Raises `MachineError` in one line where one cannot be had."""
    for source, content in _contents(data):
        if content is None:
            with told_of(source):
                address_of(source.path).fetch()


def no_rows(source: Source, counts: Counter[str]) -> DataError:
    """The error for files that are there, but gave no row; `counts` is what `read` met instead."""
    met = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in counts.items() if count)
    if counts[MALFORMED]:
        return DataError(f"{source.key}: no row of {source.path} can be read: {met}", "data.bad_rows=error says why")
    if met:
        what = "code needs docstrings"
        if counts["sections"]:
            what = "a section needs data.documents.least_chars characters below a heading"
        return DataError(f"{source.key}: {source.path} has nothing to learn from: {met}", what)
    return DataError(f"{source.key}: {source.path} is empty", "give a file with rows in it")


def _not_fetched(source: Source) -> MachineError:
    return MachineError(f"{source.key}: {source.path} is not on this machine", "run the pipeline, which fetches it")


def _contents(data: Data) -> list[tuple[Source, Content | None]]:
    """What each source holds; None where it is not fetched."""
    errors: list[UserError] = []
    found: list[tuple[Source, Content | None]] = []
    for source in sources_of(data):
        try:
            with told_of(source):
                found.append((source, content_of(address_of(source.path), source.format)))
        except UserError as error:
            errors.append(error)
    raise_all(errors)
    return found


def _check(source: Source, content: Content, data: Data) -> None:
    from sft_runner.data import formats

    limit = CHECKED_BYTES if content.kind == "rows" else CHECKED_SLOW_BYTES
    counts: Counter[str] = Counter()
    rows = read(source, data, counts, limit)
    first = _telling(source, data, rows)
    if first is None:
        if sum(path.stat().st_size for path in content.files) <= limit:
            raise no_rows(source, counts)
        return
    with told_of(source):
        found = formats.choose(source, first)
        for row in chain([first], rows):
            try:
                (formats.choose(source, row) if data.mixed else found).example(row, data.template)
            except DataError:
                if data.bad_rows == "error":
                    raise


def _telling(source: Source, data: Data, rows: Iterator[Row]) -> Row | None:
    """The row that tells the format of a source; rows before it are taken from the iterator and are bad ones."""
    from sft_runner.data import formats

    first = next(rows, None)
    if first is None or data.bad_rows == "error":
        return first
    for row in chain([first], rows):
        with suppress(DataError):
            formats.choose(source, row)
            return row
    return first


def _rows(content: Content, data: Data, faults: Faults, most_bytes: int | None) -> Iterator[Row]:
    for name in content.skipped:
        faults.note("files_skipped", name)
    if content.kind == "documents":
        from sft_runner.data import documents

        yield from documents.rows(content.files, content.root, data, faults, most_bytes, content.title)
    elif content.kind == "code":
        from sft_runner.data import code

        yield from code.rows(content.files, content.root, data, faults, most_bytes)
    else:
        for path in content.files:
            if most_bytes is not None and most_bytes <= 0:
                return
            yield from reader.rows(path, content.name(path), faults, most_bytes)
            if most_bytes is not None:
                most_bytes -= path.stat().st_size


def _template(data: Data) -> Path | None:
    """The file that `data.template` names, if it is one."""
    if not data.template.endswith(TEMPLATE_FILES):
        return None
    path = Path(data.template).expanduser().absolute()
    if not path.is_file():
        raise UserError(f"data.template: there is no file {data.template}", "name a .jinja file, or take model")
    return path
