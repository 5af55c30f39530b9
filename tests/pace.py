"""Speed as a ratio: CPU time beside that of plain Python on the same machine, whatever else runs on it."""

import time
from collections.abc import Callable
from typing import Any

LOOPS = 1_000_000
"""Additions that one unit is made of; some 30 to 60 ms."""


def in_loops(work: Callable[[], Any], tries: int = 3) -> float:
    """CPU time of `work` in units of a loop of a million additions; of each the shortest of some tries."""
    return _shortest(work, tries) / _shortest(_loop, tries)


def _loop() -> int:
    total = 0
    for number in range(LOOPS):
        total += number
    return total


def _shortest(work: Callable[[], Any], tries: int) -> float:
    found = []
    for _ in range(tries):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)
