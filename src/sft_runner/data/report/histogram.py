"""A picture of how long the rows are. Geometry in the units of its view box; the page's template draws it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720.0, 110.0
"""Of the part with bars."""
_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Bar:
    """The rows of one range of lengths."""

    x: float
    """Left edge."""
    width: float
    """Width."""
    height: float
    """Height, upwards from the axis."""
    title: str
    """The numbers in words."""


@dataclass(frozen=True)
class Histogram:
    """The whole picture."""

    bars: list[Bar]
    """From the left; ranges without rows have none."""
    most: int
    """Rows of the tallest bar."""
    ticks: list[tuple[float, str]]
    """Places on the axis with their labels, in tokens."""
    limit: float | None
    """Place of `data.max_length`; None where it lies beyond the axis."""


def histogram(edges: Sequence[float], counts: Sequence[int], max_length: int) -> Histogram:
    """Bars for `counts` rows between neighbouring `edges`, in tokens."""
    last, most = float(edges[-1]) if edges else 1.0, max(counts, default=0)
    span = float(max_length) if last <= max_length <= 1.5 * last else last
    scale = WIDTH / span
    bars = [
        Bar(
            round(low * scale + 0.5, 2),
            round(max((high - low) * scale - 1, 0.5), 2),
            round(max(count / most * HEIGHT, 1.0), 2),
            f"{low:,.0f} to {high:,.0f} tokens: {count:,} rows",
        )
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
        if count
    ]
    ticks = [(round(value * scale, 2), f"{value:,.0f}") for value in _round_values(span)]
    return Histogram(bars, most, ticks, round(max_length * scale, 2) if max_length <= span else None)


def line(counts: Sequence[int]) -> str:
    """The same as one line of text: a block for each range, blank where there is no row."""
    most = max(counts, default=0)
    return "".join(_BLOCKS[math.ceil(count / most * len(_BLOCKS)) - 1] if count else " " for count in counts)


def _round_values(span: float) -> list[float]:
    """0 and up to eight round values (1, 2 or 5 times a power of ten), as a reader expects them on an axis."""
    power = 10.0 ** math.floor(math.log10(max(span, 1.0)) - 1)
    step = next(factor * power for factor in (1, 2, 5, 10, 20, 50) if span <= 8 * factor * power)
    return [i * max(step, 1.0) for i in range(int(span / max(step, 1.0)) + 1)]
