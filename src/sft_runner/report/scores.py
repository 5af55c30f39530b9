"""Scores as lines of a table: a metric of some rows by base and tuned model, the gain, and 95 % intervals."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sft_runner.data.report.numbers import percent
from sft_runner.evaluation import names
from sft_runner.tracking.numbers import is_number

ALL = ""
"""The part that is all held-out rows."""
_STANDARD_ERROR, _NORMAL = "_stderr", 1.96
"""How lm-evaluation-harness names a standard error, and how many of them make half a 95 % interval."""


@dataclass(frozen=True)
class Value:
    """A number, with its interval where one is known."""

    number: float
    """What was measured."""
    low: float | None = None
    """Lower end of the 95 % interval."""
    high: float | None = None
    """Upper end."""


@dataclass(frozen=True)
class Line:
    """One metric of one part of what was scored."""

    part: str
    """`""` for the held-out rows, else the group's, the set's or the benchmark's name."""
    metric: str
    """Its name."""
    base: Value | None
    """Of the base model."""
    tuned: Value | None
    """Of the tuned model."""
    gain: Value | None
    """By how much the tuned one is better; negative where it is worse."""

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `open` where the gain's interval holds 0, or empty where that cannot be said."""
        if self.gain is None or self.gain.low is None or self.gain.high is None:
            return ""
        if self.gain.low > 0:
            return "better"
        return "worse" if self.gain.high < 0 else "open"


def overall(scores: Mapping[str, Any], headline: str) -> list[Line]:
    """The held-out rows together, the headline metric first."""
    found = list(_lines(ALL, scores, scores.get("intervals")))
    return sorted(found, key=lambda line: line.metric != headline)


def groups(scores: Mapping[str, Any]) -> list[Line]:
    """Sources and kinds of held-out rows."""
    return list(_parts(scores, "by"))


def sets(scores: Mapping[str, Any]) -> list[Line]:
    """Other sets, which say what was forgotten, and their own groups."""
    return list(_parts(scores, "sets"))


def benchmarks(scores: Mapping[str, Any]) -> list[Line]:
    """Tasks of lm-evaluation-harness; its standard errors become intervals."""
    sides = {side: _mapping(_mapping(scores.get(side)).get("benchmarks")) for side in ("base", "tuned", "gain")}
    return [
        Line(
            str(task),
            str(metric),
            _with_error(sides["base"].get(task), metric),
            _with_error(sides["tuned"].get(task), metric),
            _with_error(sides["gain"].get(task), metric),
        )
        for task in _keys(sides.values())
        for metric in _keys(_mapping(side.get(task)) for side in sides.values())
        if not str(metric).endswith(_STANDARD_ERROR)
    ]


def rests_on(scores: Mapping[str, Any]) -> dict[str, int]:
    """How many rows, answer tokens and answers there were."""
    side = _mapping(scores.get("tuned") or scores.get("base"))
    return {name: int(side[name]) for name in names.COUNTS if is_number(side.get(name))}


def is_share(metric: str) -> bool:
    """Whether a metric is a share of the rows, between 0 and 1."""
    return names.is_share(metric)


def less_is_better(line: Line) -> bool:
    """Whether a smaller value is the better one, as the gain has it: a user's own metric need not be here any more."""
    if line.base and line.tuned and line.gain and line.gain.number:
        return (line.tuned.number - line.base.number) * line.gain.number < 0
    return line.metric in names.LOWER_IS_BETTER


def shown(metric: str, value: float | None) -> str:
    """A value as people read it: `4.0 %`, `1.818`."""
    if value is None:
        return "–"
    return percent(value) if is_share(metric) and 0 <= value <= 1 else _number(value)


def shown_gain(metric: str, value: float | None) -> str:
    """A difference with its sign: `+4.0 points`, `−0.12`."""
    if value is None:
        return "–"
    text = f"{100 * value:+.1f}" if is_share(metric) else f"{'+' if value >= 0 else '-'}{_number(abs(value))}"
    return text.replace("-", "−") + (" points" if is_share(metric) else "")


def shown_interval(metric: str, value: Value | None) -> str:
    """The interval of a gain: `+1.5 to +7.0 points`."""
    if value is None or value.low is None or value.high is None:
        return "–"
    low = shown_gain(metric, value.low).removesuffix(" points")
    return f"{low} to {shown_gain(metric, value.high)}"


def words(metric: str) -> str:
    """A metric's name as words."""
    return metric.replace("_", " ")


def _parts(scores: Mapping[str, Any], where: str) -> Iterator[Line]:
    """The lines of everything that stands below `by` or `sets`."""
    sides = {side: _mapping(_mapping(scores.get(side)).get(where)) for side in ("base", "tuned", "gain")}
    intervals = _mapping(_mapping(scores.get("intervals")).get(where))
    for name in _keys(sides.values()):
        own = {side: found.get(name) for side, found in sides.items()}
        yield from _lines(str(name), own, intervals.get(name))
        inner = {side: _mapping(found).get("by") for side, found in own.items()}
        ranges = _mapping(_mapping(intervals.get(name)).get("by"))
        for group in _keys(map(_mapping, inner.values())) if where == "sets" else ():
            parts = {side: _mapping(found).get(group) for side, found in inner.items()}
            yield from _lines(f"{name}: {group}", parts, ranges.get(group))


def _lines(part: str, sides: Mapping[str, Any], intervals: Any) -> Iterator[Line]:
    """The lines of one part: `sides` are its scores by base and tuned model, and the gain."""
    found = {side: _mapping(sides.get(side)) for side in ("base", "tuned", "gain")}
    for metric in _keys((found["tuned"], found["base"])):
        if metric in names.COUNTS or not any(is_number(side.get(metric)) for side in found.values()):
            continue
        ranges = _mapping(_mapping(intervals).get(metric))
        values = [_value(found[side].get(metric), ranges.get(side)) for side in ("base", "tuned", "gain")]
        yield Line(part, str(metric), *values)


def _value(number: Any, interval: Any) -> Value | None:
    if not is_number(number) or math.isnan(number):
        return None
    ends = [_mapping(interval).get(end) for end in ("low", "high")]
    low, high = (end if is_number(end) and math.isfinite(end) else None for end in ends)
    return Value(float(number), low, high) if low is not None and high is not None else Value(float(number))


def _with_error(task: Any, metric: Any) -> Value | None:
    number, error = (_mapping(task).get(key) for key in (metric, f"{metric}{_STANDARD_ERROR}"))
    if not is_number(number):
        return None
    if not is_number(error) or not math.isfinite(error):
        return Value(float(number))
    return Value(float(number), number - _NORMAL * error, number + _NORMAL * error)


def _keys(parts: Any) -> Sequence[Any]:
    return list(dict.fromkeys(key for part in parts for key in part))


def _mapping(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}


def _number(value: float) -> str:
    """Four digits, without powers of ten where people would not write them."""
    if value and not 1e-4 <= abs(value) < 1e9:
        return f"{value:.1e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
