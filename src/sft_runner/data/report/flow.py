"""A picture of where the rows went: ribbons from each source to what became of its rows.

Geometry in the units of the picture's view box; the page's template draws it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

MOST_SOURCES = 12
"""Sources drawn by name; where there are more, the smallest are drawn together."""
LEFT, RIGHT = 205.0, 505.0
"""Where ribbons begin and end."""
_LEAST_HEIGHT, _MORE_HEIGHT, _MOST_HEIGHT = 80.0, 50.0, 220.0
"""Height of all rows together: for no source, for each one more, and in the end."""
_SLOT, _GAP = 20.0, 6.0
"""Least height that a name needs, and the space between two."""
_THIN = 1.5
"""Least height of a ribbon, so that one row among a million is seen."""


class Fate(NamedTuple):
    """What became of a row."""

    kind: str
    """`train`, `held_out` or `dropped`."""
    label: str
    """In words."""


@dataclass(frozen=True)
class Node:
    """An end of ribbons: a source on the left, a fate on the right."""

    label: str
    """Its name."""
    kind: str
    """`source`, or the kind of its fate."""
    rows: int
    """How many rows go through it."""
    top: float
    """Upper edge."""
    height: float
    """Height of its bar."""


@dataclass(frozen=True)
class Ribbon:
    """The rows of one source that met one fate."""

    kind: str
    """The kind of fate."""
    title: str
    """The number in words."""
    path: str
    """Its outline, as an SVG path."""


@dataclass(frozen=True)
class Flow:
    """The whole picture."""

    sources: list[Node]
    """The left side, from the top."""
    fates: list[Node]
    """The right side, from the top."""
    ribbons: list[Ribbon]
    """What joins them."""
    height: float
    """How high it is."""


def flow(report: Mapping[str, Any]) -> Flow:
    """The picture for a report; its numbers are the report's own."""
    rows = _largest({name: _fates(source["rows"]) for name, source in report["sources"].items()})
    totals = sum(rows.values(), Counter[Fate]())
    fates = sorted(totals, key=lambda fate: ("train", "held_out", "dropped").index(fate.kind))
    scale = min(_LEAST_HEIGHT + _MORE_HEIGHT * len(rows), _MOST_HEIGHT) / max(totals.total(), 1)
    widths = {(name, fate): max(_THIN, count * scale) for name in rows for fate, count in rows[name].items()}
    left = list(
        _stacked((name, "source", rows[name].total(), [widths.get((name, f), 0.0) for f in fates]) for name in rows)
    )
    right = list(_stacked((f.label, f.kind, totals[f], [widths.get((name, f), 0.0) for name in rows]) for f in fates))
    starts, ends = [node.top for node in left], [node.top for node in right]
    ribbons = []
    for i, name in enumerate(rows):
        for j, fate in enumerate(fates):
            if width := widths.get((name, fate), 0.0):
                title = f"{name}: {rows[name][fate]:,} {fate.label}"
                ribbons.append(Ribbon(fate.kind, title, _outline(starts[i], ends[j], width)))
                starts[i], ends[j] = starts[i] + width, ends[j] + width
    bottom = max((node.top + node.height / 2 + max(node.height, _SLOT) / 2 for node in (*left, *right)), default=_SLOT)
    return Flow(left, right, ribbons, bottom)


def _fates(rows: Mapping[str, Any]) -> Counter[Fate]:
    """What became of a source's rows."""
    found = {Fate("train", "to learn from"): rows["train"], Fate("held_out", "held out"): rows["held_out"]}
    found |= {Fate("dropped", reason.replace("_", " ")): count for reason, count in rows["dropped"].items()}
    return Counter({fate: count for fate, count in found.items() if count})


def _largest(rows: dict[str, Counter[Fate]]) -> dict[str, Counter[Fate]]:
    """At most `MOST_SOURCES` entries, in the order they had; the smallest become one."""
    if len(rows) <= MOST_SOURCES:
        return rows
    ranked = sorted(rows, key=lambda name: rows[name].total(), reverse=True)
    kept = set(ranked[: MOST_SOURCES - 1])
    others = sum((rows[name] for name in rows if name not in kept), Counter[Fate]())
    return {name: rows[name] for name in rows if name in kept} | {f"{len(rows) - len(kept)} others": others}


def _stacked(nodes: Iterable[tuple[str, str, int, Sequence[float]]]) -> Iterable[Node]:
    """Nodes (label, kind, rows, heights of their ribbons) below one another, each with room for its label."""
    top = 0.0
    for label, kind, rows, heights in nodes:
        height = sum(heights)
        slot = max(height, _SLOT)
        yield Node(label, kind, rows, top + (slot - height) / 2, height)
        top += slot + _GAP


def _outline(start: float, end: float, width: float) -> str:
    middle = (LEFT + RIGHT) / 2
    return (
        f"M{LEFT:g},{start:.1f} C{middle:g},{start:.1f} {middle:g},{end:.1f} {RIGHT:g},{end:.1f} "
        f"v{width:.1f} C{middle:g},{end + width:.1f} {middle:g},{start + width:.1f} {LEFT:g},{start + width:.1f} Z"
    )
