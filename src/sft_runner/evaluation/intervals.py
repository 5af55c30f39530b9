"""95 % intervals of scores and of gains by a paired bootstrap over rows.

Rows are drawn with replacement as often as there are rows, and base and tuned model are scored on the same draw, so
that what makes a row hard for both does not blur their difference (Koehn 2004, "Statistical significance tests for
machine translation evaluation"). An interval ends at percentiles of the draws' scores, a little further out where rows
are few ("expanded percentiles", Hesterberg 2015, "What teachers should know about the bootstrap", section 5.3).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from sft_runner.evaluation import names
from sft_runner.evaluation.metrics.metric import ALWAYS, Metric
from sft_runner.evaluation.metrics.statistics import Statistics, counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVEL = 0.95
LEAST = 5
"""Rows below which there is no interval: one of 4 rows holds the truth in 87 of 100 experiments, one of 2 in 54."""
RESAMPLES = 2000
SEED = 20041
CELLS = 2**22
"""Counts that are held at once, of rows in draws: 32 MiB."""
SIDES = ("base", "tuned", "gain")


def paired(
    base: Statistics, tuned: Statistics, metrics: Sequence[Metric], members: Sequence[int] | None = None
) -> dict[str, Any]:
    """Metric -> `{"base": {"low", "high"}, "tuned": ..., "gain": ...}`, of all rows or of some; a gain is positive
    where the tuned model is better.

    What cannot be told is left out: all of it with fewer than `LEAST` rows, and any that does not vary from draw to
    draw, but for metrics that are right or wrong (see `_exact`).
    """
    functions = {**ALWAYS, **{metric.name: metric.value for metric in metrics}}
    found: dict[str, Any] = {}
    for together, rows in _alike(base, tuned, members):
        if len(rows) < LEAST:
            continue
        widths = [tuned[name].shape[1] for name in together]
        both = [_beside(side, together, rows) for side in (base, tuned)]
        drawn = _draws(both, len(rows))
        start = 0
        for name, width in zip(together, widths, strict=True):
            columns = slice(start, start + width)
            start += width
            scores = [_values(functions[name], sums[:, columns]) for sums in drawn]
            pair = [side[:, columns] for side in both]
            if intervals := _of_metric(name, scores, pair):
                found[name] = intervals
    return {name: found[name] for name in tuned if name in found}


def with_parts(
    base: Statistics, tuned: Statistics, metrics: Sequence[Metric], groups: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """The same, and below `by` that of each group of rows."""
    parts = {name: paired(base, tuned, metrics, members) for name, members in groups.items()}
    return paired(base, tuned, metrics) | ({"by": parts} if groups else {})


def tail(rows: int) -> float:
    """The share of draws that is cut off at each end: 2.5 % with many rows, less with few.

    A percentile interval is too short by sqrt((n - 1) / n), and by the normal quantile that stands for Student's t.
    """
    normal = NormalDist()
    freedom, z = rows - 1, normal.inv_cdf(0.5 + LEVEL / 2)
    # Student's t from the normal quantile: Abramowitz and Stegun, 26.7.5
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    return normal.cdf(-t * math.sqrt(rows / freedom))


def _alike(
    base: Statistics, tuned: Statistics, members: Sequence[int] | None
) -> Iterator[tuple[list[str], "NDArray[Any]"]]:
    """Metrics that count for the same rows, and these rows: they share their draws."""
    import numpy as np

    found: dict[bytes, tuple[list[str], NDArray[Any]]] = {}
    for name in tuned:
        if name in base and base[name].shape == tuned[name].shape:
            here = counted(base[name]) & counted(tuned[name])
            rows = np.flatnonzero(here) if members is None else np.array(members)[here[list(members)]]
            found.setdefault(rows.tobytes(), ([], rows))[0].append(name)
    yield from found.values()


def _beside(side: Statistics, together: Sequence[str], rows: "NDArray[Any]") -> "NDArray[Any]":
    """The numbers of several metrics in one matrix, `[rows, numbers]`."""
    import numpy as np

    return np.concatenate([side[name][rows] for name in together], axis=1)


def _draws(sides: Sequence["NDArray[Any]"], rows: int) -> list["NDArray[Any]"]:
    """The sums of each draw, `[RESAMPLES, numbers]`, for each side by the same draws."""
    import numpy as np

    random = np.random.default_rng(SEED)
    sums = [np.empty((RESAMPLES, side.shape[1])) for side in sides]
    block = max(1, min(RESAMPLES, CELLS // rows))
    for first in range(0, RESAMPLES, block):
        size = min(block, RESAMPLES - first)
        counts = np.empty((size, rows))  # how often each row is in each draw
        for count in counts:
            count[:] = np.bincount(random.integers(rows, size=rows), minlength=rows)
        for side, total in zip(sides, sums, strict=True):
            total[first : first + size] = counts @ side
    return sums


def _values(function: Callable[["NDArray[Any]"], float], sums: "NDArray[Any]") -> "NDArray[Any]":
    import numpy as np

    return np.array([function(row) for row in sums])


def _of_metric(
    name: str, scores: Sequence["NDArray[Any]"], pair: Sequence["NDArray[Any]"]
) -> dict[str, dict[str, float]]:
    """The intervals of one metric, from each side's scores by draw and its numbers by row."""
    import numpy as np

    base, tuned = scores
    gains = base - tuned if names.lower_is_better(name) else tuned - base
    cut = tail(len(pair[0]))
    found = {}
    for side, values in zip(SIDES, (base, tuned, gains), strict=True):
        if not np.isfinite(values).all():
            continue
        if np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())):
            ends = _exact(side, float(values[0]), pair, names.is_share(name))
        else:
            low, high = np.quantile(values, [cut, 1 - cut])
            ends = (float(low), float(high))
        if ends:
            found[side] = {"low": ends[0], "high": ends[1]}
    return found


def _exact(side: str, value: float, pair: Sequence["NDArray[Any]"], share: bool) -> tuple[float, float] | None:
    """The interval where every row is the same, all right or all wrong: draws do not vary then, and say nothing.

    With n such rows, the share of others is at most 1 - 0.025^(1/n) (Clopper and Pearson 1934). None for metrics that
    are not right or wrong row by row: a `share` lies between 0 and 1, another is known to where it is 0 with one model
    and 1 with the other.
    """
    import numpy as np

    numbers = np.concatenate(pair)
    found = set(np.unique(numbers[:, 0]))
    if numbers.shape[1] != 2 or not (numbers[:, 1] == 1).all() or not (found == {0, 1} or (share and found <= {0, 1})):
        return None
    others = 1 - ((1 - LEVEL) / 2) ** (1 / len(pair[0]))
    if side != "gain":
        return (max(0.0, value - others), min(1.0, value + others))
    if value == 0:
        return (-others, others)
    return (1 - 2 * others, 1.0) if value > 0 else (-1.0, 2 * others - 1)
