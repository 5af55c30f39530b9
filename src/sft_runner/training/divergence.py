"""A loss that is no longer a number, or that leaps: read from the log alone, so that a resumed run sees it too.

A leap is where each of the newest entries is far above the best mean before them; a few hard batches, or a loss near
zero that triples, are none.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

Logged = Sequence[Mapping[str, Any]]
"""The trainer's log entries that have a `loss`, with their `step`; a loss is the mean since the entry before."""

ENTRIES = 3
"""So many logged losses in a row must be high."""
SHARE = 10
"""The best mean is one over a tenth of the losses so far: the lowest of many short ones would be a matter of luck."""
TIMES, NATS = 3.0, 1.0
"""A leap is above the best mean by this factor, and by so many nats for each token."""


@dataclass(frozen=True)
class Divergence:
    """Training that went wrong."""

    step: int
    """Where it was seen."""
    what: str
    """What was seen, such as `the loss is nan`."""
    good: int
    """The last logged step before it began, 0 where there is none."""


class Diverged(Exception):
    """Ends the trainer's loop."""

    def __init__(self, found: Divergence) -> None:
        super().__init__(found.what)
        self.found = found


def divergence(logged: Logged, overflows: bool = False) -> Divergence | None:
    """What is wrong with the newest entry. `overflows`: gradients do now and then, and their steps are skipped."""
    newest = logged[-1]
    for name in ("loss",) if overflows else ("loss", "grad_norm"):
        value = float(newest.get(name, 0.0))
        if not math.isfinite(value):
            return Divergence(newest["step"], f"the {name} is {value}", _good(logged[:-1]))
    losses = [entry["loss"] for entry in logged]
    if len(losses) < 2 * ENTRIES:
        return None
    best, lowest = _best(losses[:-ENTRIES]), min(losses[-ENTRIES:])
    if lowest <= _limit(best):
        return None
    what = f"the loss leapt from {best:.3g} to {losses[-1]:.3g}"
    return Divergence(newest["step"], what, _good(logged[:-ENTRIES]))


def good_until(logged: Logged) -> int:
    """The last step of which no later entry can say that training had diverged by then, 0 where there is none."""
    return _good(logged[: 1 - ENTRIES])


def _good(logged: Logged) -> int:
    """The last step at which the loss was nearer to its best than to a leap: a slow climb does not end well either."""
    finite = [entry for entry in logged if math.isfinite(entry["loss"])]
    if not finite:
        return 0
    best = _best([entry["loss"] for entry in finite])
    middle = (best + _limit(best)) / 2
    return max(int(entry["step"]) for entry in finite if entry["loss"] <= middle)


def _best(losses: Sequence[float]) -> float:
    """The lowest mean of losses in a row, each over as many as count."""
    count = max(min(ENTRIES, len(losses)), len(losses) // SHARE)
    sums = [0.0, *accumulate(losses)]
    return min(last - first for first, last in zip(sums, sums[count:], strict=False)) / count


def _limit(best: float) -> float:
    return max(TIMES * best, best + NATS)
