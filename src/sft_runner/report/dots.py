"""Scores as pictures: a dot for each value, with a bar for its 95 % interval, on one scale for each group of lines.

Places are shares of the width, so that a picture is as wide as there is room and its text keeps its size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sft_runner.report.scores import Value, is_share, shown
from sft_runner.report.ticks import powers, rounded

LOG_SCALE_FROM = 30
"""Values whose largest is so many times the smallest are placed by their logarithm, as the loss curve does it."""
_MARGIN = 0.06
"""Share of the span that is left free at each end of a scale that is no share."""
_EDGE = 1.5
"""Share of the width, in percent, that is left free for half a dot."""


@dataclass(frozen=True)
class Dot:
    """A value in a picture."""

    kind: str
    """The colour: `source` for the base model, `train` for the tuned one."""
    what: str
    """In words, with the value and its interval."""
    x: float
    """Its place, in percent of the width."""
    low: float | None
    """Left end of its bar."""
    high: float | None
    """Right end."""


@dataclass(frozen=True)
class Row:
    """A line of a picture."""

    label: str
    """What it is about."""
    text: str
    """Its values as text."""
    dots: list[Dot]
    """In their order."""


@dataclass(frozen=True)
class Picture:
    """Lines on one scale."""

    rows: list[Row]
    """From the top."""
    ticks: list[tuple[float, str]]
    """Places of round values on the scale, in percent of the width, and what they are."""
    logarithmic: bool
    """Whether equal distances are equal ratios."""


Named = tuple[str, Sequence[tuple[str, str, Value | None]]]
"""The label of a line, and kind, name and value of each of its dots."""


def picture(metric: str, lines: Sequence[Named]) -> Picture:
    """Lines of one metric on a common scale; a share has all of 0 to 100 %."""
    values = [value for _, dots in lines for _, _, value in dots if value and math.isfinite(value.number)]
    numbers = [value.number for value in values]
    ends = [end for one in values for end in (one.low, one.high) if end is not None]
    logarithmic = bool(numbers) and 0 < LOG_SCALE_FROM * min(numbers) <= max(numbers) and not is_share(metric)
    seen = [*numbers, *(end for end in ends if end > 0 or not logarithmic)]
    low, high = (0.0, 1.0) if is_share(metric) else _span(seen, logarithmic)

    def place(value: float) -> float:
        value = max(value, low)  # what lies below a logarithmic scale is at its left edge
        share = math.log(value / low) / math.log(high / low) if logarithmic else (value - low) / (high - low)
        return round(_EDGE + min(max(share, 0.0), 1.0) * (100 - 2 * _EDGE), 2)

    def dot(kind: str, what: str, value: Value) -> Dot:
        ends = [None if end is None else place(end) for end in (value.low, value.high)]
        return Dot(kind, f"{what} {_told(metric, value)}", place(value.number), *ends)

    rows = []
    for label, named in lines:
        there = [(kind, what, value) for kind, what, value in named if value and not math.isnan(value.number)]
        text = " → ".join(shown(metric, value.number) for _, _, value in there)
        rows.append(Row(label, text, [dot(*one) for one in there]))
    round_ = powers(low, high) if logarithmic else rounded(low, high)
    return Picture(
        rows,
        [
            (place(value), f"{value:.0%}".replace("%", " %") if is_share(metric) else shown(metric, value))
            for value in round_
        ],
        logarithmic,
    )


def _span(seen: Sequence[float], logarithmic: bool) -> tuple[float, float]:
    """The ends of a scale."""
    low, high = min(seen, default=0.0), max(seen, default=1.0)
    if low == high:
        return low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    if logarithmic:
        factor = (high / low) ** _MARGIN
        return low / factor, high * factor
    room = _MARGIN * (high - low)
    return (max(low - room, 0.0) if low >= 0 else low - room), high + room


def _told(metric: str, value: Value) -> str:
    text = shown(metric, value.number)
    if value.low is None or value.high is None:
        return text
    return f"{text}, 95 % interval {shown(metric, value.low)} to {shown(metric, value.high)}"
