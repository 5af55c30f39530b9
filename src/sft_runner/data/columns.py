"""The small columns of the encoded rows, in memory; the ids themselves stay on the disk."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.data.batch import EXAMPLES

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUMBERS = ("digest", "prompt", "answer", "rank")
"""Columns of 64-bit hashes."""


@dataclass
class Columns:
    """One entry for each encoded row: about 50 bytes."""

    file: Path
    """The Arrow stream file with all columns."""
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
    answer: "NDArray[Any]"
    """Hash of its last message."""
    rank: "NDArray[Any]"
    """Place of its group in the order in which rows are held out."""

    def __len__(self) -> int:
        return len(self.length)

    def places(self, which: "NDArray[Any]") -> list[str]:
        """Where the first of some rows stand, such as `train.jsonl:7`; `which` is a mask."""
        import numpy as np

        wanted, start = np.flatnonzero(which), 0
        found: dict[str, None] = {}
        for batch in batches(self.file):
            here = wanted[(wanted >= start) & (wanted < start + batch.num_rows)] - start
            for index in here:
                found[batch.column("source")[int(index)].as_py()] = None
                if len(found) == EXAMPLES:
                    return list(found)
            start += batch.num_rows
        return list(found)


def batches(file: Path) -> Iterator[Any]:
    """The record batches of a stream file, memory-mapped."""
    import pyarrow as pa  # type: ignore[import-untyped]

    with pa.memory_map(str(file)) as mapped, pa.ipc.open_stream(mapped) as reader:
        yield from reader


def prompts(file: Path) -> Iterator[bytes]:
    """The digest of the prompt's token ids of each row, of all its ids where it has none; of any file of rows."""
    for batch in batches(file):
        ids = batch.column("input_ids")
        offsets, values = ids.offsets.to_numpy(), ids.values.to_numpy()
        lengths = batch.column("prompt_length").to_numpy(zero_copy_only=False)
        for start, end, length in zip(offsets[:-1], offsets[1:], lengths, strict=True):
            yield hashlib.blake2b(values[start : start + length if length else end].tobytes(), digest_size=8).digest()


def read(file: Path) -> Columns:
    """The small columns of all rows of a file."""
    import numpy as np

    found: dict[str, list[NDArray[Any]]] = {name: [np.empty(0, np.uint64)] for name in NUMBERS}
    found |= {name: [np.empty(0, np.int32)] for name in ("length", "trained", "origin")}
    found["only_asked"] = [np.empty(0, bool)]
    for batch in batches(file):
        found["length"].append(np.diff(batch.column("input_ids").offsets.to_numpy()))
        for name in ("trained", "origin", "only_asked", *NUMBERS):
            found[name].append(batch.column(name).to_numpy(zero_copy_only=False).copy())
    return Columns(file, **{name: np.concatenate(parts) for name, parts in found.items()})
