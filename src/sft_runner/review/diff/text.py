"""A difference for the terminal and for programs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from sft_runner.review.diff.changes import Again, Change, Difference, Figure, Value

WIDEST = 100
"""Characters of a value that are shown."""
KINDS = {
    "changed": "changes",
    "added": "new",
    "removed": "removed",
    "broken": "cannot run any more",
    "mended": "can run again",
}
"""Kind of a change -> how it is told."""
ABSENT = "–"
"""Stands for a key or a number that is not there."""


def text(found: Difference) -> str:
    """The whole difference, recipes with the same changes together."""
    lines = [f"old: {found.told[0]}", f"new: {found.told[1]}", ""]
    for group in groups(found.changes):
        lines += [*_block(group), ""]
    lines += [f"{old} is called {new} and has the same values" for old, new in found.renamed]
    lines += [f"{path} differs, and no recipe uses it" for path in found.unused]
    lines += [f"{case} cannot be resolved on either side: {why}" for case, why in found.broken]
    lines += [f"note: {note}" for note in found.notes]
    return "\n".join([*lines, summary(found)])


def as_json(found: Difference) -> dict[str, Any]:
    """The difference for programs."""
    return {"version": 1, "summary": summary(found), **asdict(found)}


def summary(found: Difference) -> str:
    """One line: how many recipes, and what becomes of them."""
    if not found.changes:
        return "no recipe changes"
    counts = {kind: len({change.case for change in found.changes if change.kind == kind}) for kind in KINDS}
    told = [f"{count} {_verb(kind, count)}" for kind, count in counts.items() if count]
    stages = [again.stage for change in found.changes if change.kind == "changed" for again in change.stages]
    runs = ", ".join(f"{stage} {count}x" for stage in dict.fromkeys(stages) if (count := stages.count(stage)))
    return f"recipes: {', '.join(told)}; " + (f"stages that run again: {runs}" if runs else "no stage runs again")


def groups(changes: Iterable[Change]) -> list[list[Change]]:
    """Recipes whose settings and stages change alike, together; the largest group first."""
    found: dict[Any, list[Change]] = {}
    for change in changes:
        found.setdefault((change.kind, change.values, change.stages, change.errors), []).append(change)
    return sorted(found.values(), key=len, reverse=True)


def named(group: Sequence[Change]) -> str:
    """The recipes of a group in a line."""
    names = ", ".join(change.case for change in group)
    return names if len(group) == 1 else f"{len(group)} recipes: {names}"


def value(told: str | None) -> str:
    """A value that is short enough for a line."""
    return ABSENT if told is None else told if len(told) <= WIDEST else f"{told[: WIDEST - 1]}…"


def runs(stages: Iterable[Again]) -> list[str]:
    """The stages in short: those with the same cause together."""
    found: dict[str, list[str]] = {}
    for again in stages:
        found.setdefault(again.why, []).append(again.stage)
    return [f"{', '.join(names)}{f': {why}' if why else ''}" for why, names in found.items()]


def figures(group: Sequence[Change]) -> list[tuple[str, list[Figure]]]:
    """The numbers that differ, with the recipes that they are of; no name where it is all of the group."""
    found: dict[tuple[Figure, ...], list[str]] = {}
    for change in group:
        found.setdefault(change.figures, []).append(change.case)
    alone = len(found) == 1
    return [("" if alone else ", ".join(names), list(numbers)) for numbers, names in found.items() if numbers]


def _block(group: Sequence[Change]) -> Iterator[str]:
    first = group[0]
    yield named(group) + ("" if first.kind == "changed" else f"  ({KINDS[first.kind]})")
    for title, why in zip(("before", "after"), first.errors, strict=True):
        if why:
            yield f"  {title}: {why}"
    width = max((len(one.key) for one in first.values), default=0)
    for one in first.values:
        yield f"  {one.key:<{width}}  {_course(one)}"
    for line in runs(first.stages) if first.kind != "added" else ():
        yield f"  runs again  {line}"
    for names, numbers in figures(group):
        for figure in numbers:
            told = (
                f"{value(figure.old)} → {value(figure.new)}" if figure.old or first.kind != "added" else str(figure.new)
            )
            yield f"  plan  {f'{names}: ' if names else ''}{figure.name} {told}"


def _course(one: Value) -> str:
    """From which value to which, and what set each."""
    if one.old is None and one.old_place == "" and one.new is not None:
        return f"{ABSENT} → {value(one.new)}  ({one.new_place})"
    if one.new is None:
        return f"{value(one.old)} → {ABSENT}  ({one.old_place})"
    if one.old_place == one.new_place:
        return f"{value(one.old)} → {value(one.new)}  ({one.new_place})"
    return f"{value(one.old)} → {value(one.new)}  ({one.old_place} → {one.new_place})"


def _verb(kind: str, count: int) -> str:
    """`3 change`, `1 is new`."""
    if kind == "changed":
        return "changes" if count == 1 else "change"
    if kind in ("added", "removed"):
        return f"{'is' if count == 1 else 'are'} {KINDS[kind]}"
    return KINDS[kind]
