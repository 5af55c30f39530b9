"""Writing rows into the file of results: what a person wrote around the table stays as it is."""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sft_runner.disk import explained, sync_folder
from sft_runner.review.record import cells
from sft_runner.review.record.table import COLUMNS, Row, Table, parsed

_ABOUT = (
    "Measured by runs of `recipes/{name}.yaml`. `sft-runner record RUN` writes a row, the newest first; `words` are\n"
    "what was said besides `recipe=`, ranges are 95 % intervals, dates are in UTC."
)


def write(path: Path, recipe: str, rows: Iterable[Row]) -> bool:
    """Put rows into the file of a recipe's results, each in place of those of the same words on the same machine;
    returns whether it is another file than before. Raises `UserError` for a file that cannot be read as one.

    Written aside and renamed; two commands at a time wait for each other.
    """
    with explained(path), _alone(path.parent):
        table = parsed(path) or _new(recipe)
        for row in rows:
            table = placed(table, row)
        data = text(table).encode()
        if path.is_file() and path.read_bytes() == data:
            return False
        keep(path, data)
        return True


def keep(path: Path, data: bytes) -> None:
    """Write a file aside, sync it and rename it; a link stays one. Its mode stays as it was."""
    path = path.resolve()
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            if path.exists():
                os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
            os.fsync(file.fileno())
        os.replace(aside, path)
        sync_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def placed(table: Table, row: Row) -> Table:
    """The table with a row: above all that are as old or older."""
    others = [other for other in table.rows if other.key != row.key]
    at = next((number for number, other in enumerate(others) if other.date <= row.date), len(others))
    columns = (*table.columns, *(column for column in COLUMNS if column not in table.columns))
    return Table(table.before, columns, [*others[:at], row, *others[at:]], table.after, table.end, table.bom)


def text(table: Table) -> str:
    """The whole file."""
    lines = [
        *table.before,
        cells.joined(table.columns),
        f"|{'|'.join('---' for _ in table.columns)}|",
        *(cells.joined([row.cells.get(column, cells.NONE) for column in table.columns]) for row in table.rows),
        *table.after,
    ]
    return ("\ufeff" if table.bom else "") + table.end.join(lines)


def _new(recipe: str) -> Table:
    return Table(
        [f"# Results of {cells.plain(recipe)}", "", *_ABOUT.format(name=recipe).split("\n"), ""], COLUMNS, [], [""]
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One at a time in a folder; nothing is left in it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # not every network disk has locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
