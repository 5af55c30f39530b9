"""What came of one limit of `evaluate.gates`, and how it is told."""

from dataclasses import dataclass

LEAST = ("min", "min_gain")
"""The limits that a number must not be below; it must not be above the others."""
_DIGITS = (3, 4, 6, 9, 17)


@dataclass(frozen=True)
class Verdict:
    """What came of one limit."""

    gate: str
    """The metric, behind a set's or a group's name where it is of one: `general.perplexity`."""
    limit: str
    """`min`, `max`, `min_gain` or `max_ratio`."""
    wanted: float
    """The limit."""
    found: float | None
    """What was measured against it: a score, a gain or a ratio; None where it was not measured."""
    passed: bool
    """Whether it is met."""
    missed_by: float | None = None
    """How far it is beyond the limit; None where it is met, or where nothing was measured."""
    interval: tuple[float, float] | None = None
    """95 % interval of `found`, its lower and its upper end; None where there is none."""
    sure: bool = False
    """Whether the worse end of the interval was judged too."""
    measured: tuple[str, ...] = ()
    """The metrics of the same rows or task that were measured, where this one was not."""

    @property
    def judged(self) -> float | None:
        """The number that the limit was held against: the worse of what was found and, where it is to be sure, of its
        interval. None where one of them is missing."""
        if self.found is None or not self.sure:
            return self.found
        worse = min if self.limit in LEAST else max
        return worse(self.found, *self.interval) if self.interval else None

    @property
    def lacks(self) -> str:
        """Why nothing could be judged; empty where it was."""
        if self.found is None:
            return "not measured"
        return "no interval" if self.judged is None else ""

    def __str__(self) -> str:
        """`exact_match 0.41 < min 0.6`."""
        what = {"min_gain": " gain", "max_ratio": " ratio"}.get(self.limit, "")
        if self.judged is None:
            verb = "was" if self.found is None else "has"
            return f"{self.gate}{what} {verb} {self.lacks}, {self.limit} {number(self.wanted)}"
        signs = ("≥", "<") if self.limit in LEAST else ("≤", ">")
        worst = " at worst" if self.sure else ""
        shown = number(self.judged, None if self.passed else self.wanted)
        return f"{self.gate}{what}{worst} {shown} {signs[not self.passed]} {self.limit} {number(self.wanted)}"


def number(value: float, beside: float | None = None) -> str:
    """A number in as few digits as tell it from the one beside it."""
    texts = (f"{value:.{digits}g}" for digits in _DIGITS)
    return next((text for text in texts if float(text) != beside), repr(value))
