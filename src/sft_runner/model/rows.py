"""The rows that `prepare` wrote, and how rows of different lengths become one batch."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.data.template import IGNORED
from sft_runner.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

Rows = Any
"""A `datasets.Dataset` with the columns that `prepare` writes; the library has no types."""


def held_out(prepared: Path, limit: int | None) -> Rows:
    """The first `limit` held-out rows below what `prepare` wrote. Raises `DataError` when there are none."""
    rows = first_rows(prepared / "held_out", limit)
    if rows is None:
        raise DataError(
            "data.held_out: no row was kept away from training, so there is nothing to score on",
            "set data.held_out to a share such as 0.1 or a number of rows, or end with stage=merge",
        )
    return rows


def first_rows(folder: Path, limit: int | None) -> Rows | None:
    """The first rows of one prepared data set, or None where it has none."""
    from datasets import Dataset  # type: ignore[import-untyped]

    if not any(folder.glob("*.arrow")):  # `load_from_disk` fails on a data set that was saved without rows
        return None
    rows = Dataset.load_from_disk(folder)
    if not len(rows):
        return None
    return rows if limit is None else rows.select(range(min(limit, len(rows))))


def answer_positions(labels: Sequence[int]) -> list[int]:
    """The positions whose logits predict a token that carries loss."""
    return [i - 1 for i in range(1, len(labels)) if labels[i] != IGNORED]


def padded(
    rows: Sequence[Sequence[int]], value: int, device: Any, width: int = 0, left: bool = False
) -> tuple["Tensor", "Tensor"]:
    """Rows as one matrix filled up with `value`, and the mask of what is real."""
    import torch

    width = width or max(len(row) for row in rows)
    matrix = torch.full((len(rows), width), value)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(0, len(row))
        matrix[i, place] = torch.tensor(row, dtype=torch.long)
        mask[i, place] = 1
    return matrix.to(device), mask.to(device)


def batches(lengths: Sequence[int], starts: Sequence[int], size: int, positions: int) -> Iterator[list[int]]:
    """Indices of rows, longest first, at most `size` in a batch.

    A batch of several rows has at most `positions` positions from its earliest start on, padding counted.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if batch:
            tail = lengths[batch[0]] - min(starts[i] for i in (*batch, index))
            if len(batch) == size or tail * (len(batch) + 1) > positions:
                yield batch
                batch = []
        batch.append(index)
    if batch:
        yield batch
