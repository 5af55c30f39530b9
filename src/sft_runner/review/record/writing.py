"""Writing rows into the file of results: what a person wrote around the table stays as it is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sft_runner.disk import alone, replace
from sft_runner.review.record import cells
from sft_runner.review.record.table import COLUMNS, Row, Table, parsed

_ABOUT = (
    "Measured by runs of `recipes/{name}.yaml`. `sft-runner record RUN` writes a row, the newest first; `words` are\n"
    "what was said besides `recipe=`, ranges are 95 % intervals, dates are in UTC."
)


@dataclass
class Written:
    """What became of a file of results."""

    changed: bool = False
    """Whether it is another file than before."""
    replaced: list[Row] = field(default_factory=list)
    """The rows that are gone from it."""
    kept: list[tuple[Row, Row]] = field(default_factory=list)
    """A row that was not written, and the newer one that stays instead of it."""


def write(path: Path, recipe: str, rows: Iterable[Row], force: bool = False) -> Written:
    """Put rows into the file of a recipe's results, each in place of those of the same words on the same machine.

    A newer one stays unless there is `force`; one that is marked never takes the place of one that is not. Raises
    `UserError` for a file that cannot be read as one, `MachineError` where it cannot be written. Written aside and
    renamed; two commands at a time wait for each other.
    """
    told = Written()
    with alone(path.resolve().parent):
        table = parsed(path) or _new(recipe)
        for row in rows:
            rivals = [one for one in table.rows if one.key == row.key and (one.marked or not row.marked)]
            newer = [one for one in rivals if one.date > row.date and one.marked == row.marked]
            if newer and not force:
                told.kept.append((row, newer[0]))
                continue
            told.replaced += [one for one in rivals if one.line]
            table = placed(table, row, rivals)
        told.changed = replace(path, text(table).encode())
    return told


def placed(table: Table, row: Row, rivals: Sequence[Row] = ()) -> Table:
    """The table with a row in place of `rivals`: above all that are as old or older."""
    others = [other for other in table.rows if other not in rivals]
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
