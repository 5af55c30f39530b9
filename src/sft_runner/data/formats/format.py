"""The formats by name: the columns that each is known by, and the function that reads its rows."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache

from sft_runner.data.formats import alpaca, chat, made, plain_text, preference, prompt_completion, qa, trajectory
from sft_runner.data.formats.columns import ColumnMap
from sft_runner.data.row import Example, Row
from sft_runner.errors import DataError

ASKING = frozenset({"instruction", "question", "prompt", "task", "messages", "conversations"})
"""Columns with which a row asks something, so that an answer must stand in another."""


@dataclass(frozen=True)
class Format:
    """One way to write a row. It can be pickled, so that it can be handed to another process."""

    name: str
    """The value of `data.format`."""
    columns: tuple[tuple[str, ...], ...]
    """The sets of columns it can be known by; a row needs all columns of one set."""
    convert: Callable[[Row, str], Example]
    """A row that has the columns, and the value of `data.template` -> what is learned."""
    optional: tuple[str, ...] = ()
    """Columns that are read where they are there."""
    mapping: ColumnMap | None = None
    """`data.columns`, where the file's columns have other names."""

    def fits(self, row: Row) -> bool:
        """Whether the row has the columns, after `mapping`; a null counts as missing."""
        values = row.values
        for columns in self.columns:
            for column in columns:
                if values.get(column) is None:
                    break
            else:
                return True
        return False

    def example(self, row: Row, template: str = "model") -> Example:
        """What a row teaches. Raises `DataError` for a row of another shape.

        `template` is the value of `data.template`: it decides how an input or a context is joined to its question.
        """
        if self.mapping:
            row = self.mapping.applied(row)
        if not self.fits(row):
            raise self._misfit(row)
        return self.convert(row, template)

    def known(self) -> set[str]:
        """All columns that it reads."""
        return {column for columns in self.columns for column in columns}.union(self.optional)

    def needs(self) -> str:
        """Its columns in words: `instruction + output`."""
        return " or ".join(" + ".join(columns) for columns in self.columns)

    def _misfit(self, row: Row) -> DataError:
        nearest = max(self.columns, key=lambda columns: sum(row.values.get(column) is not None for column in columns))
        missing = next(column for column in nearest if row.values.get(column) is None)
        others = fitting(present(row))
        return row.error(
            f"{missing} {'is null' if missing in row.values else 'is missing'}; {self.name} needs {self.needs()}, "
            f"the columns are {', '.join(row.values) or 'none'}",
            f"the row looks like {others[0]}: set data.format={others[0]}; if only some rows do, split the file, "
            "or set data.mixed=true"
            if others
            else near_misses(row.values) or "every row needs them",
        )


FORMATS = {
    format.name: format
    for format in (
        Format("alpaca", alpaca.COLUMNS, alpaca.example, alpaca.OPTIONAL),
        Format("qa", qa.COLUMNS, qa.example, qa.OPTIONAL),
        Format("conversations", chat.CONVERSATIONS, chat.conversations, chat.OPTIONAL),
        Format("messages", chat.MESSAGES, chat.messages, chat.OPTIONAL),
        Format("prompt_completion", prompt_completion.COLUMNS, prompt_completion.example, prompt_completion.OPTIONAL),
        Format("text", plain_text.COLUMNS, plain_text.example),
        Format("trajectory", trajectory.COLUMNS, trajectory.example, trajectory.OPTIONAL),
        Format("preference", preference.COLUMNS, preference.example, preference.OPTIONAL),
        Format("docs", (made.PAIR,), made.docs),
        Format("python", (made.HOLE, made.PAIR), made.python),
    )
}


@lru_cache(maxsize=1024)
def fitting(columns: frozenset[str]) -> tuple[str, ...]:
    """The formats that rows with these columns can be read by, of those that exclude each other only the right one."""
    found = [f.name for f in FORMATS.values() if any(columns.issuperset(needed) for needed in f.columns)]
    if "preference" in found:  # the prompt's columns often make another format
        return ("preference",)
    if "prompt_completion" in found:  # rows made of documents or code look the same
        found = [name for name in found if name not in ("docs", "python")]
    if "text" in found and (len(found) > 1 or near_misses(columns) or columns & ASKING):
        found.remove("text")  # often a column beside others; alone it must not hide a mistyped answer
    return tuple(found)


def present(row: Row) -> frozenset[str]:
    """The columns in which the row has something."""
    return frozenset(column for column, value in row.values.items() if value is not None)


def near_misses(columns: Iterable[str]) -> str:
    """A suggestion for columns that are almost the name of a needed one; empty where there is none."""
    columns = list(columns)
    known = {name for f in FORMATS.values() for names in f.columns for name in names}
    optional = {name for f in FORMATS.values() for name in f.optional}
    free = sorted(known.difference(columns))
    pairs = [
        (column, get_close_matches(column.lower(), free, n=1, cutoff=0.75))
        for column in columns
        if column not in known | optional
    ]
    return ", ".join(f"did you mean '{close[0]}' by '{column}'?" for column, close in pairs if close)
