"""What there is to do for each file: which bytes are copied, which are merged, and where they go."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sft_runner.merging.arithmetic import by_rows
from sft_runner.merging.layers import Edit
from sft_runner.merging.shards import Shard, Stored

PIECE = 4 << 20
"""Bytes of a piece that is merged; in float32 it is twice as large, and both stay in the processor's cache or near."""
SPAN = 16 << 20
"""Bytes of a piece that is copied."""
HALVES = ("BF16", "F16")
"""Types in which rows are merged one by one. In others PEFT's result is the same to the bit only for whole tensors."""


@dataclass
class Job:
    """One file that is written."""

    source: Shard
    """The base's file."""
    target: Shard
    """The merged file."""
    as_before: bool
    """Whether both have the same header."""
    left: int = 0
    """How many of its pieces are not yet written."""
    unsynced: int = 0
    """Bytes written since it was last brought to the disk."""
    handles: tuple[int, int] | None = None
    """Source and target while they are open."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Guards what changes here."""
    writing: threading.Lock = field(default_factory=threading.Lock)
    """Held while bytes are written: the kernel lets one thread write to a file at a time, and others spin."""


@dataclass(frozen=True)
class Piece:
    """Some bytes of one file."""

    job: Job
    """The file."""
    source: int
    """Where they are read in the base's file."""
    target: int
    """Where they are written."""
    size: int
    """How many are written."""
    tensor: Stored | None = None
    """The tensor of the merged file that is made here; None where bytes are copied, of whatever tensors."""
    origin: Stored | None = None
    """The tensor of the base's file that it is made from."""
    row: int | None = None
    """The first of the rows that are made; None where the tensor is made as a whole."""


def pieces(job: Job, edits: Mapping[str, Edit], rounding: Any) -> list[Piece]:
    """All pieces of a file, in the order of its bytes. `job.left` counts them."""
    origins = {one.name: one for one in job.source.tensors}
    found: list[Piece] = []
    for tensor in job.target.tensors:
        edit = edits.get(tensor.name)
        origin = origins[edit.source if edit else tensor.name]
        rounded = rounding is not None and rounding.covers(origin.name)
        edited = edit is not None and (edit.layer or edit.replaced is not None)
        if not edited and not rounded:
            _extend(found, Piece(job, origin.start, tensor.start, tensor.size))
        elif edit and edited and not rounded and tensor.dtype in HALVES and by_rows(edit):
            found += _rows(job, tensor, origin)
        else:
            found.append(Piece(job, origin.start, tensor.start, tensor.size, tensor, origin))
    found = [part for piece in found for part in _parts(piece)]
    job.left = len(found)
    return found


def _extend(found: list[Piece], piece: Piece) -> None:
    """Append bytes to copy, or make the last piece longer where they follow it in both files."""
    last = found[-1] if found else None
    ends = (last.source + last.size, last.target + last.size) if last and last.tensor is None else None
    if last and ends == (piece.source, piece.target):
        found[-1] = Piece(piece.job, last.source, last.target, last.size + piece.size)
    else:
        found.append(piece)


def _rows(job: Job, tensor: Stored, origin: Stored) -> Iterator[Piece]:
    """A matrix by rows."""
    rows = tensor.shape[0]
    width = tensor.size // max(rows, 1)
    step = max(1, PIECE // max(width, 1))
    for row in range(0, rows, step):
        size = min(step, rows - row) * width
        yield Piece(job, origin.start + row * width, tensor.start + row * width, size, tensor, origin, row)


def _parts(piece: Piece) -> Iterator[Piece]:
    """Bytes to copy in parts, so that no thread has much more to do than another; none of nothing."""
    if piece.tensor is not None:
        yield piece
        return
    for place in range(0, piece.size, SPAN):
        size = min(SPAN, piece.size - place)
        yield Piece(piece.job, piece.source + place, piece.target + place, size)
