"""The held-out rows are chosen by what they ask, not by where they stand."""

import random

import numpy as np
import pytest

from sft_runner.data import splitting
from sft_runner.data.splitting import rank
from sft_runner.errors import DataError


def held_out(ranks: list[int], share: float) -> set[int]:
    """The indices of the held-out rows."""
    return set(np.flatnonzero(splitting.held_out(np.array(ranks, np.uint64), share)).tolist())


RANKS = [rank(42, f"question {i}") for i in range(1000)]


@pytest.mark.parametrize(
    ("share", "count"), [(0, 0), (0.1, 100), (0.0001, 1), (1, 1), (1.0, 1), (200, 200), (999, 999)]
)
def test_below_one_it_is_a_share_and_from_one_on_a_number(share: float, count: int) -> None:
    assert len(held_out(RANKS, share)) == count


def test_order_does_not_matter() -> None:
    order = list(range(1000))
    random.Random(0).shuffle(order)
    chosen = held_out(RANKS, 0.1)
    assert {order[i] for i in held_out([RANKS[i] for i in order], 0.1)} == chosen
    assert chosen != set(range(100))


def test_rows_keep_their_side_when_others_are_added() -> None:
    before = held_out(RANKS, 100)
    after = held_out([*RANKS, *(rank(42, f"more {i}") for i in range(100))], 110)
    assert len(before - after) < 10  # only rows near the edge move
    assert len({i for i in after if i < 1000} - before) < 10


def test_another_seed_is_another_choice() -> None:
    other = held_out([rank(43, f"question {i}") for i in range(1000)], 0.1)
    assert len(other & held_out(RANKS, 0.1)) < 30


def test_equal_prompts_stay_together() -> None:
    ranks = [rank(42, f"question {i // 4}") for i in range(100)]
    chosen = held_out(ranks, 10)
    assert len(chosen) == 8
    for first in range(0, 100, 4):
        assert len({i in chosen for i in range(first, first + 4)}) == 1


def test_where_every_group_is_too_large_the_smallest_is_taken() -> None:
    ranks = [rank(42, "a")] * 50 + [rank(42, "b")] * 30 + [rank(42, "c")] * 20
    assert held_out(ranks, 0.1) == set(range(80, 100))


def test_a_prompt_with_most_rows_is_not_held_out() -> None:
    ranks = [rank(42, "the same")] * 90 + RANKS[:10]
    assert min(held_out(ranks, 5)) >= 90


@pytest.mark.parametrize(
    ("ranks", "share", "told"),
    [
        (RANKS[:150], 200, "data.held_out: 200 leaves nothing of 150 rows"),
        (RANKS[:1], 0.1, "data.held_out: 0.1 leaves nothing of 1 rows"),
        (RANKS[:1] * 5, 0.2, "data.held_out: 1 of 5 rows cannot be held out, because rows with equal prompts"),
    ],
)
def test_a_choice_that_leaves_a_side_empty_is_refused(ranks: list[int], share: float, told: str) -> None:
    with pytest.raises(DataError, match=told):
        held_out(ranks, share)
