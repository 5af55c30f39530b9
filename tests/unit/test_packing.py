"""Passes are as full as they can be made."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sft_runner.data.packing import efficiency, fullness, pack, similar

CAPACITY = 2048


def lognormal(count: int, seed: int) -> NDArray[np.int64]:
    """Lengths with a mean of 378 tokens."""
    deviation = 0.9
    drawn = np.random.default_rng(seed).lognormal(np.log(378) - deviation**2 / 2, deviation, count)
    return np.clip(drawn, 8, CAPACITY).astype(int)


def uniform(count: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(300, 2041, count)


# --- how rows are packed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("mix", "least"), [(lognormal, 0.999), (uniform, 0.968)], ids=["lognormal", "uniform"])
def test_packs_are_full(mix: Any, least: float, seed: int) -> None:
    lengths = mix(6000, seed)
    found = pack(lengths, CAPACITY)
    assert efficiency(lengths, len(found), CAPACITY) >= least


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([], []),
        ([10], [[0]]),
        ([4, 4, 4], [[0, 1], [2]]),
        ([6, 7, 3, 4], [[1, 2], [0, 3]]),  # the tightest fit, not the first: 3 goes to 7, 4 to 6
        ([5, 5, 5, 5, 1], [[0, 1], [2, 3], [4]]),
        ([10, 1, 10], [[0], [2], [1]]),
    ],
)
def test_each_row_goes_where_it_leaves_least(lengths: list[int], expected: list[list[int]]) -> None:
    assert pack(lengths, 10) == expected


def test_it_is_best_fit_decreasing() -> None:
    """As the textbook does it, one row after the other."""
    for seed in range(20):
        lengths = np.random.default_rng(seed).integers(1, 60, 80).tolist()
        room: list[int] = []
        for length in sorted(lengths, reverse=True):
            left = min((left for left in room if left >= length), default=None)
            if left is not None:
                room.remove(left)
            room.append((64 if left is None else left) - length)
        found = pack(lengths, 64)
        assert sorted(64 - sum(lengths[row] for row in rows) for rows in found) == sorted(room)
        assert sorted(row for rows in found for row in rows) == list(range(80))


@pytest.mark.parametrize("lengths", [[3, 11], [3, 0]])
def test_a_row_that_fits_into_no_pack_is_told(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="row 1 has .* tokens; from 1 to 10 fit"):
        pack(lengths, 10)


def test_a_million_rows_take_seconds() -> None:
    lengths = lognormal(200_000, 0)
    found = pack(lengths, CAPACITY)
    assert efficiency(lengths, len(found), CAPACITY) > 0.9995
    assert max(sum(lengths[row] for row in rows) for rows in found) <= CAPACITY


def test_no_packs_have_no_efficiency() -> None:
    assert efficiency([], 0, 10) == 0


# --- rows side by side ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "most", "cost", "expected"),
    [
        ([], 10, 1, []),
        ([5], 10, 1, [[0]]),
        ([20], 10, 1, [[0]]),  # a row by itself may be longer
        ([1, 9, 1, 9], 99, 0, [[1, 3], [0, 2]]),
        ([1, 9, 1, 9], 99, 17, [[1, 3, 0, 2]]),  # padding of 16 tokens is cheaper than a pass
        ([5, 5, 5], 10, 0, [[0], [1, 2]]),
    ],
)
def test_similar_lengths_stand_together(lengths: list[int], most: int, cost: int, expected: list[list[int]]) -> None:
    found = similar(lengths, most, cost)
    assert sorted(map(sorted, found)) == sorted(map(sorted, expected))


def test_no_other_cut_is_cheaper() -> None:
    for seed in range(20):
        lengths = np.random.default_rng(seed).integers(1, 50, 9).tolist()
        ordered = sorted(lengths, reverse=True)

        def cost(cuts: list[int], ordered: list[int] = ordered) -> int:
            return sum(ordered[start] * (end - start) + 10 for start, end in pairwise([0, *cuts, 9]))

        every = ([place + 1 for place in range(8) if bits >> place & 1] for bits in range(256))
        groups = similar(lengths, 10**6, 10)
        assert sum(max(lengths[row] for row in group) * len(group) + 10 for group in groups) == min(map(cost, every))


@pytest.mark.parametrize(
    ("groups", "expected"),
    [([], 0.0), ([[0, 1, 2]], 8 / 12), ([[0, 1], [2]], 8 / 11), ([[2, 0], [1]], 8 / 10), ([[0], [1], [2]], 1.0)],
)
def test_what_is_no_padding(groups: list[list[int]], expected: float) -> None:
    assert fullness([1, 4, 3], groups) == pytest.approx(expected)
