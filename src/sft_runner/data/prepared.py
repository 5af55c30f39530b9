"""What the later stages read: rows to learn from and rows held out.

The file with all encoded rows is streamed once, batch by batch, so memory stays flat.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.data.columns import batches
from sft_runner.data.selection import KINDS, Chosen
from sft_runner.data.sources import Source

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

TRAIN, HELD_OUT = "train.arrow", "held_out.arrow"
WRITTEN = ("input_ids", "labels", "messages", "tools", "prompt_length", "source", "rejected")
"""The columns of the encoded rows that are kept; `origin` and `kind` join them."""


def write(chosen: Chosen, sources: Sequence[Source], folder: Path) -> None:
    """Write both files into `folder`. `train.arrow` holds as many copies of a row as are learned in an epoch."""
    import numpy as np
    import pyarrow as pa

    names, kinds = pa.array([source.name for source in sources]), pa.array(KINDS)
    writers: list[Any] = []
    start = 0
    with pa.OSFile(str(folder / TRAIN), "wb") as train, pa.OSFile(str(folder / HELD_OUT), "wb") as held_out:
        for batch in batches(chosen.columns.file):
            here = slice(start, start + batch.num_rows)
            start += batch.num_rows
            writers = writers or [pa.ipc.new_stream(file, _columns(batch)) for file in (train, held_out)]
            copies = np.repeat(np.arange(batch.num_rows), chosen.train[here])
            for writer, wanted in zip(writers, (copies, np.flatnonzero(chosen.held_out[here])), strict=True):
                if len(wanted):
                    part = batch.take(pa.array(wanted))
                    labels = [names.take(part.column("origin")), kinds.take(pa.array(chosen.kind[here][wanted]))]
                    arrays = [*(part.column(name) for name in WRITTEN), *labels]
                    writer.write_batch(pa.record_batch(arrays, _columns(batch)))
        for writer in writers:
            writer.close()


def write_all(rows: Path, name: str, target: Path) -> None:
    """Write all encoded rows of one file, of at least one row, in the same columns; `name` is their origin."""
    import pyarrow as pa

    writer: Any = None
    with pa.OSFile(str(target), "wb") as file:
        for batch in batches(rows):
            columns = _columns(batch)
            writer = writer or pa.ipc.new_stream(file, columns)
            labels = [pa.array([text] * batch.num_rows) for text in (name, KINDS[0])]
            writer.write_batch(pa.record_batch([*(batch.column(column) for column in WRITTEN), *labels], columns))
        writer.close()


def _columns(batch: "pa.RecordBatch") -> "pa.Schema":
    import pyarrow as pa

    kept = [batch.schema.field(name) for name in WRITTEN]
    return pa.schema([*kept, pa.field("origin", pa.string()), pa.field("kind", pa.string())])
