"""The table of results: its rows, read back, and those that are no longer what the recipe makes."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sft_runner.config.sources import recipes, shown
from sft_runner.errors import SftError, UserError
from sft_runner.fingerprint import Hashes
from sft_runner.review.record import cells
from sft_runner.review.record.made import made

SUFFIX = ".results.md"
"""`recipes/qa.yaml` has its results in `recipes/qa.results.md`."""
COLUMNS = (
    "date",
    "words",
    "score",
    "loss",
    "gates",
    "rows",
    "time",
    "memory",
    "machine",
    "fingerprint",
    "model",
    "versions",
    "commit",
)
"""What a row says."""
NEEDED = ("date", "words", "machine", "fingerprint")
"""Without these columns a table is none of results."""
_CONFLICT = re.compile(r"(<{7}|>{7}|\|{7})( |$)")


@dataclass(frozen=True)
class Row:
    """One measured run."""

    cells: Mapping[str, str]
    """Column -> what it says, as Markdown."""
    line: int = 0
    """Line of the file, from 1; 0 where it stands in none yet."""

    @property
    def words(self) -> tuple[str, ...]:
        """What was said besides `recipe=`, such as `("hardware=cpu", "model=tiny")`."""
        return cells.words(self.cells["words"])

    @property
    def fingerprint(self) -> str:
        """Of the stage `evaluate`."""
        return cells.uncoded(self.cells["fingerprint"])

    @property
    def date(self) -> str:
        """When the run began: `2026-03-01 12:00`."""
        return self.cells["date"]

    @property
    def key(self) -> tuple[tuple[str, ...], str]:
        """What a run is replaced by: one of the same words, in whatever order, on the same machine."""
        return tuple(sorted(self.words)), self.cells["machine"]

    @property
    def marked(self) -> bool:
        """Whether it is told as no result of the recipe: it was recorded with `--force`."""
        return "**" in self.cells.get("commit", "")


@dataclass(frozen=True)
class Table:
    """A file of results in its three parts."""

    before: list[str]
    """The lines above the table."""
    columns: tuple[str, ...]
    """Its columns."""
    rows: list[Row]
    """Its rows, from above."""
    after: list[str]
    """The lines below it."""
    end: str = "\n"
    """How its lines end."""
    bom: bool = False
    """Whether the file begins with a byte order mark."""


def results_of(recipe: Path) -> Path:
    """Where the results of a recipe are."""
    return recipe.with_name(recipe.stem + SUFFIX)


def read(path: Path) -> list[Row]:
    """The rows of a file of results, from above; none where there is no such file. Raises `UserError`."""
    table = parsed(path)
    return table.rows if table else []


def parsed(path: Path) -> Table | None:
    """A file of results; None where it is not there or empty.

    Raises `UserError` for a merge conflict, for a file without such a table, and for a line that is no row of it.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        bom = path.read_bytes().startswith(b"\xef\xbb\xbf")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{shown(path)}: cannot be read: {error}", "it is a text file in UTF-8") from error
    if not text.strip():
        return None
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    for number, line in enumerate(lines, 1):
        if _CONFLICT.match(line):
            hint = "keep the rows of both sides and remove the marks; sft-runner record then renews what it measures"
            raise UserError(f"{shown(path)}, line {number}: a merge conflict", hint)
    head = next((number for number, line in enumerate(lines) if _is_head(line, lines[number + 1 :])), None)
    if head is None:
        hint = f"move it away: sft-runner record writes a table with the columns {', '.join(COLUMNS)}"
        raise UserError(f"{shown(path)}: there is no table of results in it", hint)
    columns = tuple(cells.split(lines[head]))
    last = next((n for n in range(head + 2, len(lines)) if not lines[n].lstrip().startswith("|")), len(lines))
    rows = [_row(path, number + 1, lines[number], columns) for number in range(head + 2, last)]
    return Table(lines[:head], columns, rows, lines[last:], "\r\n" if "\r\n" in text else "\n", bom)


def stale(recipe: str, hashes: Hashes) -> Iterator[tuple[Row, str]]:
    """The rows that are no longer what a recipe makes, each with why. Raises `UserError` as `read` does.

    A row whose data or model is not on this machine is none of them: nobody can tell.
    """
    found = cache(lambda words: made(recipe, words, hashes))  # the same words may be measured on many machines
    for row in read(results_of(recipes()[recipe].path)):
        try:
            now = found(row.words)
        except SftError:
            continue  # what cannot be composed is told by lint itself
        if now and now.fingerprint != row.fingerprint:
            yield row, f"measured as {row.fingerprint}, it makes {now.fingerprint}; `sft-runner diff` says what differs"


def _is_head(line: str, below: list[str]) -> bool:
    """Whether a line and the one below it begin a table of results."""
    if not line.lstrip().startswith("|") or not below or not re.fullmatch(r"\s*\|[\s:|-]+", below[0]):
        return False
    return set(NEEDED) <= set(cells.split(line))


def _row(path: Path, number: int, line: str, columns: tuple[str, ...]) -> Row:
    found = cells.split(line)
    where = f"{shown(path)}, line {number}"
    if len(found) != len(columns):
        hint = "a pipe inside of a cell is written as \\|"
        raise UserError(f"{where}: {len(found)} cells in a table of {len(columns)} columns", hint)
    row = Row(dict(zip(columns, found, strict=True)), number)
    if not re.fullmatch(r"[0-9a-f]{8,64}", row.fingerprint):
        hint = "put notes above or below the table; the fingerprint is the one of the run's evaluate stage"
        raise UserError(f"{where}: '{row.cells['fingerprint']}' is no fingerprint", hint)
    try:
        _ = row.words
    except ValueError as error:
        raise UserError(f"{where}: its words cannot be read: {error}", "write them as in a shell") from error
    return row
