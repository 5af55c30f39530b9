"""A loss that is no longer a number, or that leaps: read from the log alone, so that a resumed run sees it too.

A leap is where the newest losses, every one of them, are far above the best mean before them, and not falling again.
Few are enough where they are above all that was ever logged; where only the best is exceeded, as hard batches do by
chance, it takes many. Losses are those of stretches of steps, which may have several log entries.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

Logged = Sequence[Mapping[str, Any]]
"""The trainer's log entries that have a `loss`, with their `step`; a loss is the mean since the entry before."""

FEW, MANY = 5, 12
"""So many stretches in a row must be high: above all before them, or above the best alone. Where 30 % of the batches
are hard ones, `MANY` of them in a row come once in two million."""
SHARE = 10
"""The best mean is one over a tenth of the stretches so far: the lowest of many short ones would be luck."""
TIMES, NATS = 2.0, 1.0
"""A leap is above the best mean by this factor, and by so many nats for each token."""


@dataclass(frozen=True)
class Divergence:
    """Training that went wrong."""

    step: int
    """Where it was seen."""
    what: str
    """What was seen, such as `the loss is nan`."""
    good: int
    """The last step before it began that ends a stretch, 0 where there is none."""


class Diverged(Exception):
    """Ends the trainer's loop."""

    def __init__(self, found: Divergence) -> None:
        super().__init__(found.what)
        self.found = found


def divergence(logged: Logged, span: int = 1, overflows: bool = False) -> Divergence | None:
    """What is wrong at the newest entry. A stretch has at least `span` steps, and ends at an entry.

    `overflows`: gradients are not finite now and then, and their steps are skipped.
    """
    newest, whole = logged[-1], list(_stretches(logged, span))
    for name in ("loss",) if overflows else ("loss", "grad_norm"):
        value = float(newest.get(name, 0.0))
        if not math.isfinite(value):
            before = [one for one in whole if one[0] < newest["step"]]
            return Divergence(newest["step"], f"the {name} is {value}", _good(before))
    losses = [loss for _, loss in whole]
    for count, above_all in ((FEW, True), (MANY, False)):
        earlier, recent = losses[:-count], losses[-count:]
        if len(earlier) < MANY:
            continue
        best = _best(earlier)
        falls = recent[-1] < (best + max(recent)) / 2
        if min(recent) > max(_limit(best), max(earlier) if above_all else 0.0) and not falls:
            what = f"the loss leapt from {best:.3g} to {recent[-1]:.3g}"
            return Divergence(newest["step"], what, _good(whole[:-count]))
    return None


def at_look(step: int, what: str, logged: Logged, span: int = 1) -> Divergence:
    """What was wrong with a look at held-out rows; the last stretches before it are not trusted either."""
    return Divergence(step, what, _good(list(_stretches(logged, span))[:-FEW]))


def good_until(logged: Logged, span: int = 1) -> int:
    """The last step of which no later entry can say that training had diverged by then, 0 where there is none."""
    return _good(list(_stretches(logged, span))[: 1 - MANY])


def _stretches(logged: Logged, span: int) -> Iterator[tuple[int, float]]:
    """The last step and mean loss of each stretch that is over."""
    last = begin = 0
    total = 0.0
    for entry in logged:
        step = int(entry["step"])
        total += (step - last) * float(entry["loss"])
        last = step
        if step // span > begin // span:
            yield step, total / (step - begin)
            begin, total = step, 0.0


def _good(stretches: Sequence[tuple[int, float]]) -> int:
    """The last step at which the loss was nearer to its best than to a leap: a slow climb does not end well either."""
    finite = [(step, loss) for step, loss in stretches if math.isfinite(loss)]
    if not finite:
        return 0
    best = _best([loss for _, loss in finite])
    middle = (best + _limit(best)) / 2
    return max(step for step, loss in finite if loss <= middle)


def _best(losses: Sequence[float]) -> float:
    """The lowest mean of losses in a row, each over as many as count."""
    count = max(min(FEW, len(losses)), len(losses) // SHARE)
    sums = [0.0, *accumulate(losses)]
    return min(last - first for first, last in zip(sums, sums[count:], strict=False)) / count


def _limit(best: float) -> float:
    return max(TIMES * best, best + NATS)
