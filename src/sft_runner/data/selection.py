"""Which of the encoded rows are learned, held out or left out, and writing each where it belongs.

The choice reads only small columns of the file with all rows; writing streams it once, so memory stays flat.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import Data
from sft_runner.data import cleaning, mixing, packing, splitting
from sft_runner.data.account import Account, lengths
from sft_runner.data.batch import EXAMPLES
from sft_runner.data.row import Dropped
from sft_runner.data.sources import Source
from sft_runner.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

WRITTEN = ("input_ids", "labels", "messages", "tools", "prompt_length", "source", "rejected")
"""The columns of the encoded rows that later stages read."""
KINDS = ("", "unseen", "reworded")
"""Held-out rows: of no special kind; about facts of a file that is not learned; learned facts asked in other words."""


@dataclass
class Columns:
    """The small columns of all encoded rows, one entry for each row."""

    length: "NDArray[Any]"
    """Tokens."""
    trained: "NDArray[Any]"
    """Tokens that carry loss."""
    origin: "NDArray[Any]"
    """Index of the source."""
    only_asked: "NDArray[Any]"
    """Whether the row is never learned."""
    digest: "NDArray[Any]"
    """Hash of what it says."""
    prompt: "NDArray[Any]"
    """Hash of its prompt."""
    rank: "NDArray[Any]"
    """Place of its group in the order in which rows are held out."""


@dataclass
class Chosen:
    """What becomes of each encoded row."""

    columns: Columns
    """The rows."""
    train: "NDArray[Any]"
    """Copies of each row in an epoch; 0 for rows that are not learned."""
    held_out: "NDArray[Any]"
    """Whether it is kept for evaluation."""
    kind: "NDArray[Any]"
    """Index into `KINDS`."""
    packs: list[list[int]]
    """Rows of `train.arrow` that share one row of `data.max_length`."""
    duplicates: int = 0
    """Rows left out because they stood there before."""
    leaks: int = 0
    """Rows left out because their question is held out."""

    def learned(self) -> "NDArray[Any]":
        """The tokens of each row of `train.arrow`, copies too, in its order."""
        import numpy as np

        found: NDArray[Any] = np.repeat(self.columns.length, self.train)
        return found

    def report(self, data: Data) -> dict[str, Any]:
        """The part of `report.json` that is about tokens."""
        import numpy as np

        learned, trained = self.learned(), np.repeat(self.columns.trained, self.train)
        longest = int(learned.max())
        return {
            "tokens": lengths(learned, trained, self.columns.length[self.held_out], data.max_length),
            "packing": {
                "length": data.max_length,
                "packs": len(self.packs),
                "rows": len(learned),
                "efficiency": round(packing.efficiency(learned, len(self.packs), data.max_length), 4),
                "rows_per_pack": round(len(learned) / len(self.packs), 2),
                "padded_efficiency": round(float(learned.sum()) / (len(learned) * longest), 4),
            },
            "duplicates": self.duplicates,
            "leaks": self.leaks,
            "kinds": {kind: int((self.held_out & (self.kind == i)).sum()) for i, kind in enumerate(KINDS)},
        }


def choose(rows: Path, sources: Sequence[Source], data: Data, account: Account) -> Chosen:
    """Leave out duplicates, hold rows out, leave out what would leak, mix. `account` is told of all of it."""
    import numpy as np

    columns = _columns(rows)
    count = len(columns.length)
    left = ~cleaning.repeated(columns.digest)
    _drop(account, rows, columns, ~left, Dropped.DUPLICATE)
    duplicates = int((~left).sum())
    held_out = columns.only_asked & left
    for index, source in enumerate(sources):
        mine = left & (columns.origin == index)
        learnable = mine & ~columns.only_asked
        share = data.held_out if source.held_out is None else source.held_out
        name = source.name if len(sources) > 1 else ""
        try:
            held_out[learnable] = splitting.held_out(columns.rank[learnable], share, name)
        except DataError:
            if not (mine & columns.only_asked).any():
                raise
            text = "No file can be held out of so few: only learned facts are asked, in other words."
            account.warn("few_files", int(learnable.sum()), text, _places(rows, learnable))
        found, asked = int(held_out[learnable].sum()), share if share >= 1 else share * int(learnable.sum())
        if found > max(asked, 1) and math.isfinite(share):
            text = f"Held out instead of {asked:.0f}, because rows of one prompt or file stay together."
            account.warn("coarse_groups", found, text, _places(rows, held_out & learnable))
    grouped = held_out & ~columns.only_asked
    leaks = cleaning.leaking(columns.prompt, columns.rank, held_out, grouped) & left
    _drop(account, rows, columns, leaks, Dropped.HELD_OUT_TWIN)
    left &= ~leaks
    train = np.zeros(count, np.int64)
    for index, source in enumerate(sources):
        mine = left & ~held_out & (columns.origin == index)
        train[mine] = mixing.copies(columns.digest[mine], source, data.seed)
        _drop(account, rows, columns, mine & (train == 0), Dropped.CAPPED)
        account.sources[index].train = int((mine & (train > 0)).sum())
        account.sources[index].held_out = int((held_out & (columns.origin == index)).sum())
    several = cleaning.ambiguous(columns.prompt) & (train > 0)
    if several.any():
        text = "Other rows answer the same prompt otherwise; the model learns a mixture of both."
        account.warn("ambiguous", int(several.sum()), text, _places(rows, several))
    made = [index for index, source in enumerate(sources) if "docs" in account.sources[index].formats]
    taught = np.isin(columns.rank, columns.rank[train > 0])
    kind = np.where(columns.only_asked & taught, 2, np.where(np.isin(columns.origin, made), 1, 0))
    packs = packing.pack(np.repeat(columns.length, train), data.max_length)
    return Chosen(columns, train, held_out, kind, packs, duplicates, int(leaks.sum()))


def write(rows: Path, chosen: Chosen, sources: Sequence[Source], folder: Path) -> None:
    """Write `train.arrow`, `held_out.arrow` and `packs.arrow`."""
    import numpy as np
    import pyarrow as pa  # type: ignore[import-untyped]

    names = pa.array([source.name for source in sources])
    kinds = pa.array(KINDS)
    text = pa.string()
    columns = None
    start = 0
    with pa.OSFile(str(folder / "train.arrow"), "wb") as train, pa.OSFile(str(folder / "held_out.arrow"), "wb") as held:
        writers: list[Any] = []
        for batch in _batches(rows):
            here = slice(start, start + batch.num_rows)
            start += batch.num_rows
            if columns is None:
                fields = [batch.schema.field(name) for name in WRITTEN]
                columns = pa.schema([*fields, pa.field("origin", text), pa.field("kind", text)])
                writers = [pa.ipc.new_stream(file, columns) for file in (train, held)]
            copies = np.repeat(np.arange(batch.num_rows), chosen.train[here])
            for writer, wanted in zip(writers, (copies, np.flatnonzero(chosen.held_out[here])), strict=True):
                if not len(wanted):
                    continue
                part = batch.take(pa.array(wanted))
                arrays = [part.column(name) for name in WRITTEN]
                arrays.append(names.take(part.column("origin")))
                arrays.append(kinds.take(pa.array(chosen.kind[here][wanted])))
                writer.write_batch(pa.record_batch(arrays, columns))
        for writer in writers:
            writer.close()
    _write_packs(chosen.packs, folder / "packs.arrow")


def _write_packs(packs: list[list[int]], path: Path) -> None:
    import pyarrow as pa

    columns = pa.schema({"rows": pa.list_(pa.int32())})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, columns) as writer:
        writer.write_batch(pa.record_batch([pa.array(packs, columns.field("rows").type)], columns))


def _batches(rows: Path) -> Iterator[Any]:
    import pyarrow as pa

    with pa.memory_map(str(rows)) as file, pa.ipc.open_stream(file) as reader:
        yield from reader


def _columns(rows: Path) -> Columns:
    """Read the small columns; the ids themselves stay on the disk."""
    import numpy as np

    found: dict[str, list[NDArray[Any]]] = {name: [np.empty(0, np.uint64)] for name in ("digest", "prompt", "rank")}
    found |= {name: [np.empty(0, np.int32)] for name in ("length", "trained", "origin")}
    found["only_asked"] = [np.empty(0, bool)]
    for batch in _batches(rows):
        found["length"].append(np.diff(batch.column("input_ids").offsets.to_numpy()))
        for name in ("trained", "origin", "digest", "prompt", "rank", "only_asked"):
            found[name].append(batch.column(name).to_numpy(zero_copy_only=False).copy())
    return Columns(**{name: np.concatenate(parts) for name, parts in found.items()})


def _drop(account: Account, rows: Path, columns: Columns, which: "NDArray[Any]", reason: Dropped) -> None:
    """Count rows that are left out, with the places of the first."""
    if not which.any():
        return
    places = _places(rows, which)
    for index in range(len(account.sources)):
        account.drop(index, reason, int((which & (columns.origin == index)).sum()), places)


def _places(rows: Path, which: "NDArray[Any]") -> list[str]:
    """Where the first of some rows stand."""
    import numpy as np

    wanted, start = np.flatnonzero(which)[:EXAMPLES], 0
    found: list[str] = []
    for batch in _batches(rows):
        here = wanted[(wanted >= start) & (wanted < start + batch.num_rows)] - start
        found += [batch.column("source")[int(i)].as_py() for i in here]
        start += batch.num_rows
        if len(found) == len(wanted):
            break
    return found
