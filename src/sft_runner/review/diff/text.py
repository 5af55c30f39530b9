"""A difference for the terminal and for programs."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from sft_runner.review.diff.causes import Again
from sft_runner.review.diff.changes import Change, Difference, Figure
from sft_runner.review.diff.side import FILLED
from sft_runner.review.diff.values import ABSENT, pair

KINDS = {
    "changed": "changes",
    "added": "new",
    "removed": "removed",
    "broken": "cannot run any more",
    "mended": "can run again",
    "stuck": "cannot run, before or after",
}
"""Kind of a change -> how it is told."""
RUN = frozenset({"changed", "mended"})
"""Kinds of recipes whose stages can run again."""
PLACES = 2
"""Places that set a value of several recipes that are told."""


def text(found: Difference) -> str:
    """The whole difference, recipes with the same changes together."""
    lines = [f"old: {found.told[0]}", f"new: {found.told[1]}", ""]
    for group in groups(found.changes):
        lines += [*_block(group), ""]
    lines += [f"{old} is called {new} and has the same values" for old, new in found.renamed]
    lines += [f"{path} differs, and no recipe uses it" for path in found.unused]
    lines += [f"{case} cannot run, before or after: {why}" for case, why in found.broken]
    lines += [f"not known: {told}" for told in found.unknown]
    lines += [f"note: {note}" for note in found.notes]
    return "\n".join([*lines, summary(found)])


def as_json(found: Difference) -> dict[str, Any]:
    """The difference for programs."""
    return {"version": 1, "summary": summary(found), **asdict(found)}


def summary(found: Difference) -> str:
    """One line: how many recipes, and what becomes of them."""
    if not found.changes:
        return "no recipe changes" if not found.unknown else "no recipe changes as far as is known"
    counts = {kind: len({change.case for change in found.changes if change.kind == kind}) for kind in KINDS}
    told = [f"{count} {_verb(kind, count)}" for kind, count in counts.items() if count]
    stages = [again.stage for change in found.changes if change.kind in RUN for again in change.stages]
    runs = ", ".join(f"{stage} {count}x" for stage in dict.fromkeys(stages) if (count := stages.count(stage)))
    return f"recipes: {', '.join(told)}; " + (f"stages that run again: {runs}" if runs else "no stage runs again")


def groups(changes: Iterable[Change]) -> list[list[Change]]:
    """Recipes whose settings and stages change alike, whoever says the values, together; the largest group first."""
    found: dict[Any, list[Change]] = {}
    for change in changes:
        values = tuple((one.key, one.old, one.new) for one in change.values)
        stages = tuple((one.stage, one.why) for one in change.stages)
        found.setdefault((change.kind, values, stages, change.dropped, change.errors), []).append(change)
    return sorted(found.values(), key=len, reverse=True)


def named(group: Sequence[Change]) -> str:
    """The recipes of a group in a line."""
    names = ", ".join(re.sub(r"\s", " ", change.case) for change in group)
    return names if len(group) == 1 else f"{len(group)} recipes: {names}"


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


def settings(group: Sequence[Change]) -> Iterator[tuple[str, str, str, str]]:
    """Key, old value, new value, and what set them in the recipes of a group."""
    for number, one in enumerate(group[0].values):
        each = [change.values[number] for change in group]
        told = [_places(value.old_place for value in each), _places(value.new_place for value in each)]
        yield one.key, *pair(one.old, one.new), " → ".join(dict.fromkeys(filter(None, told)))


def stages(change: Change) -> Iterator[str]:
    """What becomes of the stages, a line for each cause."""
    if change.kind != "added":
        yield from (f"runs again  {line}" for line in runs(change.stages))
    if change.dropped:
        yield f"not asked for any more  {', '.join(change.dropped)}"


def _places(told: Iterable[str]) -> str:
    """What sets a value; the reasons before the lines."""
    every = sorted(dict.fromkeys(told), key=lambda place: not place.startswith(FILLED))
    return ", ".join(every[:PLACES]) + (f" and {len(every) - PLACES} more" if len(every) > PLACES else "")


def _block(group: Sequence[Change]) -> Iterator[str]:
    first = group[0]
    yield named(group) + ("" if first.kind == "changed" else f"  ({KINDS[first.kind]})")
    for title, why in errors(first):
        yield f"  {title}: {why}"
    width = max((len(one.key) for one in first.values), default=0)
    for key, old, new, places in settings(group):
        yield f"  {key:<{width}}  {old} → {new}  ({places})"
    yield from (f"  {line}" for line in stages(first))
    for names, numbers in figures(group):
        for figure in numbers:
            told = f"{figure.old or ABSENT} → {figure.new or ABSENT}" if first.kind != "added" else str(figure.new)
            yield f"  plan  {f'{names}: ' if names else ''}{figure.name} {told}"


def errors(change: Change) -> list[tuple[str, str]]:
    """Why it cannot run: `before`, `after`, or `before and after`."""
    before, after = change.errors
    if before == after:
        return [("before and after", before)] if before else []
    return [(title, why) for title, why in (("before", before), ("after", after)) if why]


def _verb(kind: str, count: int) -> str:
    """`3 change`, `1 is new`."""
    if kind == "changed":
        return "changes" if count == 1 else "change"
    if kind in ("added", "removed"):
        return f"{'is' if count == 1 else 'are'} {KINDS[kind]}"
    return KINDS[kind]
