"""The rows that `prepare` wrote, and how rows of different lengths become one batch."""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.data.prepared import HELD_OUT
from sft_runner.data.template import IGNORED
from sft_runner.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

Rows = Any
"""A `datasets.Dataset` with the columns that `prepare` writes; the library has no types."""


def held_out(prepared: Path, limit: int | None) -> Rows:
    """The held-out rows below what `prepare` wrote, at most `limit`. Raises `DataError` when there are none.

    Where rows came from several sources, or were held out for several reasons, each of them has its share of `limit`.
    """
    rows = first_rows(prepared / HELD_OUT, None)
    if rows is None:
        raise DataError(
            "data.held_out: no row was kept away from training, so there is nothing to score on",
            "set data.held_out to a share such as 0.1 or a number of rows, or end with stage=merge",
        )
    if limit is None or limit >= len(rows):
        return rows
    return rows.select(_fair(list(zip(rows["origin"], rows["kind"], strict=True)), limit))


def first_rows(file: Path, limit: int | None) -> Rows | None:
    """The first rows of one prepared file, memory-mapped, or None where it has none."""
    rows = all_rows(file)
    if not len(rows):
        return None
    return rows if limit is None else rows.select(range(min(limit, len(rows))))


def all_rows(file: Path) -> Rows:
    """The rows of one prepared file, memory-mapped; a file that is not there has none."""
    from datasets import Dataset  # type: ignore[import-untyped]

    return Dataset.from_file(str(file)) if file.is_file() else Dataset.from_dict({})


def is_conversation(row: Mapping[str, Any]) -> bool:
    """Whether a row was made of messages; a plain text and code to fill in have none."""
    return str(row["messages"]) != "[]"


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


def _fair(groups: Sequence[Hashable], limit: int) -> list[int]:
    """The first rows of each group, as equal in number as there are rows, in their order."""
    seen: Counter[Hashable] = Counter()
    ranks = []
    for group in groups:
        ranks.append(seen[group])
        seen[group] += 1
    return sorted(sorted(range(len(groups)), key=ranks.__getitem__)[:limit])
