"""Which rows share one row of `data.max_length` tokens: best fit over all rows, the longest first.

Only lengths are looked at; the rows themselves stay where they are.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Lengths = Sequence[int] | NDArray[Any]


def pack(lengths: "Lengths", capacity: int) -> list[list[int]]:
    """Packs of row indices, each row in exactly one, no pack with more than `capacity` tokens.

    Each row goes where it leaves the least room, the longest rows first, rows of one length in their order. Takes
    O(n log n) time, and gives the same packs for the same lengths. Raises `ValueError` for a row longer than
    `capacity`, which the length policy must have dealt with.
    """
    packs: list[list[int]] = []
    room: list[list[list[int]]] = [[] for _ in range(capacity + 1)]  # tokens left -> the packs that have so many left
    sizes: list[int] = []  # the tokens left for which there are packs, sorted
    for length, rows in _longest_first(lengths, capacity):
        first = 0
        while first < len(rows):
            place = bisect_left(sizes, length)
            if place < len(sizes):
                left = sizes[place]
                chosen = room[left].pop()
                if not room[left]:
                    del sizes[place]
            else:
                left, chosen = capacity, []
                packs.append(chosen)
            # what is left of this pack is now the best fit for the next row of the same length, while it fits
            taken = rows[first : first + left // length]
            chosen += taken
            first += len(taken)
            left -= length * len(taken)
            if not room[left]:
                insort(sizes, left)
            room[left].append(chosen)
    return packs


def efficiency(lengths: "Lengths", packs: int, capacity: int) -> float:
    """The share of the packs' `capacity` that holds tokens of rows; 0 without packs."""
    import numpy as np

    return float(np.sum(lengths, dtype=np.int64)) / (packs * capacity) if packs else 0.0


def packs_per_step(rows: int, packs: int, batch_size: int) -> int:
    """How many packs hold nearest to `batch_size` rows on average; at least one."""
    return max(round(batch_size * packs / max(rows, 1)), 1)


def _longest_first(lengths: "Lengths", capacity: int) -> Iterator[tuple[int, list[int]]]:
    """Each length with the indices of its rows in their order, the greatest length first."""
    import numpy as np

    found = np.asarray(lengths, dtype=np.int64)
    if not len(found):
        return
    order = np.argsort(-found, kind="stable")
    if found[order[0]] > capacity or found[order[-1]] < 1:
        wrong = int(order[0] if found[order[0]] > capacity else order[-1])
        raise ValueError(f"row {wrong} has {found[wrong]} tokens; from 1 to {capacity} fit into a pack")
    starts = np.flatnonzero(np.diff(found[order], prepend=-1))
    for rows in np.split(order, starts[1:]):
        yield int(found[rows[0]]), rows.tolist()
