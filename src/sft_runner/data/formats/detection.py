"""Which format a source has: the one that is named, or the one whose columns its first row shows."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from sft_runner.data.formats.columns import ColumnMap
from sft_runner.data.formats.format import ASKING, FORMATS, Format, fitting, near_misses, present
from sft_runner.data.row import Row
from sft_runner.errors import UnknownName

if TYPE_CHECKING:
    from sft_runner.data.sources import Source


def choose(source: "Source", row: Row) -> Format:
    """The format of a source by its first row, with the source's column map.

    Raises `DataError` that names the row, and `UserError` for a map that cannot be used.
    """
    mapping = ColumnMap.of(source.columns)
    for error in unknown_columns(source.columns, source.format):
        raise error
    candidates = list(FORMATS.values()) if source.format == "auto" else [FORMATS[source.format]]
    if len(candidates) > 1:
        candidates = [_recognised(mapping.applied(row) if mapping else row, mapping)]
    return replace(candidates[0], mapping=mapping) if mapping else candidates[0]


def unknown_columns(columns: Iterable[str], format: str, key: str = "data.columns") -> Iterator[UnknownName]:
    """The columns that a map fills and the format does not read, with `auto` none; `key` says the map."""
    formats = [FORMATS[format]] if format in FORMATS else FORMATS.values()
    known = sorted({column for one in formats for column in one.known()})
    for column in columns:
        if column not in known:
            yield UnknownName("column", column, known, f"{key}: ")


def _recognised(row: Row, mapping: ColumnMap | None) -> Format:
    """The one format whose columns the row has, and that reads everything the column map fills."""
    found = [name for name in fitting(present(row)) if not mapping or mapping.targets <= FORMATS[name].known()]
    if found == ["prompt_completion"]:
        return FORMATS[_maker(row) or found[0]]
    if len(found) == 1:
        return FORMATS[found[0]]
    columns = ", ".join(row.values) or "none"
    if found:
        raise row.error(f"the columns fit {' or '.join(found)}: {columns}", f"say which: data.format={found[0]}")
    problem = "no answer column" if present(row) & ASKING else "no format has these columns"
    if row.values.get("text"):
        advice = "data.format=text learns the column text alone"
    else:
        advice = "name them with data.columns={question: ..., answer: ...}"
    needs = ", ".join(f.needs() for f in FORMATS.values() if f.name not in ("docs", "python"))
    raise row.error(f"{problem}: {columns}", f"{near_misses(row.values) or advice}; a row needs {needs}")


def _maker(row: Row) -> str:
    """The format of a row that was made of a document or of code, by the suffix of its file."""
    from sft_runner.data import code, documents

    suffix = PurePath(row.file).suffix.lower()
    return "python" if suffix in code.SUFFIXES else "docs" if suffix in documents.SUFFIXES else ""
