"""What is decided between rows: duplicates, leaks, copies."""

import numpy as np
import pytest

from sft_runner.data.cleaning import ambiguous, apart, leaking, repeated
from sft_runner.data.mixing import copies
from sft_runner.data.sources import Source

DIGESTS = np.random.default_rng(0).integers(0, 2**64, 1000, np.uint64)


def test_the_first_of_equal_rows_stays() -> None:
    assert repeated(np.array([5, 7, 5, 5, 9, 7], np.uint64)).tolist() == [False, False, True, True, False, True]


def test_one_prompt_with_two_answers_is_seen_on_both_rows() -> None:
    prompts = np.array([5, 7, 5, 9, 5], np.uint64)
    assert ambiguous(prompts, np.array([1, 1, 1, 1, 0], bool)).tolist() == [True, False, True, False, False]


def test_equal_rows_of_two_sources_are_apart() -> None:
    digests, origins = np.array([5, 5, 5], np.uint64), np.array([0, 1, 0], np.int32)
    assert repeated(apart(digests, origins)).tolist() == [False, False, True]
    assert repeated(digests, among=np.array([0, 1, 1], bool)).tolist() == [False, False, True]


def test_a_learned_row_leaks_by_its_prompt_or_by_its_group() -> None:
    prompts = np.array([1, 1, 2, 3, 4], np.uint64)
    groups = np.array([10, 11, 12, 12, 13], np.uint64)
    held_out = np.array([True, False, True, False, False])
    assert leaking(prompts, groups, held_out, held_out).tolist() == [False, True, False, True, False]


def test_a_row_that_is_only_asked_does_not_take_its_group_along() -> None:
    prompts, groups = np.array([1, 2], np.uint64), np.array([10, 10], np.uint64)
    asked = np.array([True, False])
    assert not leaking(prompts, groups, asked, np.zeros(2, bool)).any()


@pytest.mark.parametrize(
    ("weight", "cap", "total"),
    [(1, None, 1000), (2, None, 2000), (0.25, None, 250), (2.5, None, 2500), (1, 10, 10), (3, 10, 30), (1, 5000, 1000)],
)
def test_weight_and_cap(weight: float, cap: int | None, total: int) -> None:
    found = copies(DIGESTS, Source("a", "a.jsonl", weight=weight, cap=cap), seed=42)
    assert found.sum() == total
    assert found.max() <= int(weight) + 1
    assert cap is None or (found > 0).sum() == min(cap, 1000)


def test_the_rows_that_are_taken_are_their_own_choice() -> None:
    source = Source("a", "a.jsonl", cap=100)
    order = np.random.default_rng(1).permutation(1000)
    taken = set(DIGESTS[copies(DIGESTS, source, 42) > 0].tolist())
    assert taken == set(DIGESTS[order][copies(DIGESTS[order], source, 42) > 0].tolist())
    assert len(taken & set(DIGESTS[copies(DIGESTS, source, 43) > 0].tolist())) < 30
