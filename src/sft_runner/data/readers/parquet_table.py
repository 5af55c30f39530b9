"""A Parquet file, by record batches."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.data.readers.faults import MALFORMED, Faults
from sft_runner.data.row import Row, error_at
from sft_runner.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

BATCH_BYTES = 4 << 20
"""About so much is decoded at once."""
BATCH_ROWS = 1000
"""At most so many rows are."""
PAGE_BYTES = 1 << 20
"""Read ahead in a column, so that a row group is never held as a whole."""
UNCONVERTED = (ValueError, LookupError, OverflowError)
"""What Arrow raises for values without a counterpart: text that is not UTF-8, a map with a key twice, an unknown time
zone, a time beyond the year 9999."""


def rows(path: Path, name: str, faults: Faults, most_bytes: int | None = None) -> Iterator[Row]:
    """The rows, numbered from 1; lists, structs and maps come as lists and dictionaries.

    With `most_bytes` reading ends behind the batch that passes this many bytes.
    """
    import pyarrow as pa
    from pyarrow import parquet

    number = done = 0
    try:
        with parquet.ParquetFile(path, buffer_size=PAGE_BYTES, pre_buffer=False) as file:
            _require_different_names(file.schema_arrow.names, name)
            for batch in file.iter_batches(_batch_rows(file.metadata)):
                for values in _values(batch):
                    number += 1
                    if isinstance(values, dict):
                        yield Row(values, name, number, "row")
                    else:
                        hint = "mend it, or write the file without this column"
                        faults.meet(MALFORMED, f"{name}:{number}", error_at(name, "row", number, values, hint))
                done += batch.nbytes
                if most_bytes and done > most_bytes:
                    return
    except (pa.ArrowException, OSError) as error:
        told = str(error).split("\n")[0].rstrip(". ")
        raise error_at(
            name, "row", number + 1, f"not readable as Parquet: {told}", "make or fetch the file again"
        ) from None


def count(path: Path) -> int | None:
    """How many rows the file says it has; None where it cannot be read."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return int(parquet.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError):
        return None


def _values(batch: "pa.RecordBatch") -> list[dict[str, Any] | str]:
    """The rows of a batch as Python values; for a row that has none, the reason."""
    try:
        values: list[dict[str, Any] | str] = batch.to_pylist(maps_as_pydicts="strict")
        return values
    except UNCONVERTED:
        if batch.num_rows == 1:
            return [_reason(batch)]
        return [value for i in range(batch.num_rows) for value in _values(batch.slice(i, 1))]


def _reason(row: "pa.RecordBatch") -> str:
    """Which column of a row has no Python value, and why."""
    for column in row.schema.names:
        try:
            row.column(column).to_pylist(maps_as_pydicts="strict")
        except UNCONVERTED as error:
            if isinstance(error, UnicodeDecodeError):
                return f"column {column!r}: text that is not UTF-8"
            return f"column {column!r}: a value that cannot be read: {error}"
    raise AssertionError("some column cannot be converted")


def _batch_rows(metadata: Any) -> int:
    """So few rows that a batch stays near `BATCH_BYTES`, however long they are."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    longest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1.0)
    return max(1, min(BATCH_ROWS, int(BATCH_BYTES / max(longest, 1.0))))


def _require_different_names(columns: list[str], name: str) -> None:
    twice = next((column for column in columns if columns.count(column) > 1), None)
    if twice is not None:
        raise DataError(
            f"data.path: {name}: the column {twice!r} stands twice, so one of its values would be lost",
            "rename or remove one of them",
        )
