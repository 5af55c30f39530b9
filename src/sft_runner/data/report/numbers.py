"""Numbers as a reader can check them: sums that add up, shares that do not round to all or nothing."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Term(NamedTuple):
    """A number of a sum."""

    sign: str
    """What stands in front of it: nothing, `+` or `=`."""
    rows: int
    """The number."""
    name: str
    """What it counts."""
    kind: str
    """The colour it has in pictures: `source`, `train`, `held_out` or `dropped`."""


def equation(rows: Mapping[str, Any], chosen: bool = True) -> list[Term]:
    """What `rows` of a report add up to: read + added = to learn from + held out + dropped.

    Before rows to learn from and held-out rows are `chosen`, they are one term: usable.
    """
    added = [Term("+", rows["added"], "added", "source")] if rows["added"] else []
    usable = [Term("=", rows["used"], "usable", "train")]
    parts = [Term("=", rows["train"], "to learn from", "train"), Term("+", rows["held_out"], "held out", "held_out")]
    dropped = Term("+", sum(rows["dropped"].values()), "dropped", "dropped")
    return [Term("", rows["read"], "read", "source"), *added, *(parts if chosen else usable), dropped]


def sentence(rows: Mapping[str, Any], chosen: bool = True) -> str:
    """The same as text: `100 read = 88 to learn from + 10 held out + 2 dropped`."""
    return " ".join(f"{term.sign} {term.rows:,} {term.name}".strip() for term in equation(rows, chosen))


def percent(share: float) -> str:
    """`45.3 %`; only what is all is `100 %`, and only what is nothing `0 %`."""
    if share in (0, 1):
        return f"{share * 100:.0f} %"
    return f"{min(max(share * 100, 0.1), 99.9):.1f} %"


def duration(seconds: float) -> str:
    """Seconds as `2:13`, or `1:02:13`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
