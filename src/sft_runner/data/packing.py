"""Which rows of a step share a forward and backward pass: all in one flat row, or side by side with little padding.

Only lengths are looked at; the rows themselves stay where they are.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Lengths = Sequence[int] | NDArray[Any]

CPU_PASS, CARD_PASS = 64, 1024
"""What a pass costs besides its tokens, in tokens: cutting one off must save at least so much padding. The first is
measured, the second is not."""


def similar(lengths: Sequence[int], most: int, pass_cost: int = CPU_PASS) -> list[list[int]]:
    """Groups of rows, the longest first, whose sizes with padding, and `pass_cost` for each, add up to the least.

    A group of several rows has at most `most` tokens, padding counted. Takes O(n^2) time for n rows.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    best = [(0, 0)]  # the cost of the first rows of `order`, and where their last group starts
    for end in range(1, len(order) + 1):
        ways = []
        for start in reversed(range(end)):
            size = lengths[order[start]] * (end - start)
            if size > most and start < end - 1:
                break
            ways.append((best[start][0] + size + pass_cost, start))
        best.append(min(ways))
    groups, end = [], len(order)
    while end:
        start = best[end][1]
        groups.append(order[start:end])
        end = start
    return groups[::-1]


def pack(lengths: "Lengths", capacity: int) -> list[list[int]]:
    """Packs of row indices, each row in exactly one, no pack with more than `capacity` tokens: best fit decreasing.

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


def fullness(lengths: Sequence[int], groups: Sequence[Sequence[int]]) -> float:
    """The share of tokens among the positions of groups whose rows are padded to the longest; 0 without rows."""
    positions = sum(len(group) * max(lengths[row] for row in group) for group in groups)
    return sum(lengths[row] for group in groups for row in group) / positions if positions else 0.0


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
