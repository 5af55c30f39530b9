"""What differs between two sides, recipe by recipe: settings, stages that would run again, and what it costs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sft_runner.review.diff.causes import Again, again
from sft_runner.review.diff.sides import Sides
from sft_runner.review.diff.values import clean, text

_Case = Mapping[str, Any]


@dataclass(frozen=True)
class Value:
    """A setting that differs."""

    key: str
    """Its flat name."""
    old: str | None
    """Its value before; None where there is no such key."""
    new: str | None
    """Its value after; None where there is no such key."""
    old_place: str
    """What set it before: `recipes/code.yaml, line 7`, `filled in: 2 * lora.r`; empty without it."""
    new_place: str
    """What sets it after."""


@dataclass(frozen=True)
class Figure:
    """A number of the plan that differs."""

    name: str
    """What is counted."""
    old: str | None
    """Before, in words; None where it is not known."""
    new: str | None
    """After."""
    old_number: float | None = None
    """Bytes, seconds, rows or steps before."""
    new_number: float | None = None
    """The same after."""


@dataclass(frozen=True)
class Change:
    """One recipe that a change touches."""

    case: str
    """The recipe, with the preset where it is not that of its header: `code hardware=rtx3060`."""
    kind: str
    """`changed`, `added`, `removed`, `broken`, `mended`, or `stuck`, which cannot run on either side."""
    values: tuple[Value, ...] = ()
    """Settings that differ; of one that is added, those that it says itself."""
    stages: tuple[Again, ...] = ()
    """Stages that would run again; of one that is added, all."""
    figures: tuple[Figure, ...] = ()
    """What the plan says otherwise."""
    errors: tuple[str, str] = ("", "")
    """Why it cannot run, before and after."""
    dropped: tuple[str, ...] = ()
    """Stages that are not asked for any more."""


@dataclass(frozen=True)
class Difference:
    """Everything that a change does."""

    told: tuple[str, str]
    """The two sides in words."""
    changes: list[Change]
    """Recipes that it touches."""
    renamed: list[tuple[str, str]] = field(default_factory=list)
    """Recipes whose file has another name, and else the same values."""
    unused: list[str] = field(default_factory=list)
    """Files of `conf/` that differ and that no recipe uses."""
    broken: list[tuple[str, str]] = field(default_factory=list)
    """Recipes that cannot run on either side, with the reason, and that the change does not touch."""
    unknown: list[str] = field(default_factory=list)
    """What a recipe reads and nobody can compare: it may have changed."""
    notes: list[str] = field(default_factory=list)
    """What a person should know of how the sides were compared."""


def changes(found: Sides) -> Difference:
    """The difference of two sides."""
    old, new = _with_absent(found.old, found.new), _with_absent(found.new, found.old)
    renamed = list(_renamed(old, new))
    for before, after in renamed:
        del old[before], new[after]
    pairs = [(case, old.get(case), new.get(case)) for case in sorted({*old, *new})]
    changed = [change for pair in pairs if (change := _change(*pair, found.groups))]
    looked = [one for case, *both in pairs for one in both if one and (all(both) or not one["preset"])]
    used = {path for one in looked for path in one["files"]}
    unused = [path for path in found.groups if path not in used]
    told = {change.case for change in changed}
    broken = [(case, why) for case, _, one in pairs if one and not one["preset"] and (why := _why_not(one))]
    notes = [*map(clean, found.notes), *_absent(new)]
    left = [one for one in broken if one[0] not in told]
    return Difference(found.told, changed, renamed, unused, left, [clean(one) for one in found.unknown], notes)


def _with_absent(cases: Mapping[str, _Case], others: Mapping[str, _Case]) -> dict[str, _Case]:
    """Cases of which it is a problem that data is not here, unless it is not here on the other side either."""
    found: dict[str, _Case] = {}
    for case, one in cases.items():
        gone = [
            f"data: {path} is not here"
            for kind, path in one["absent"].items()
            if case in others and not others[case]["error"] and others[case]["absent"].get(kind) != path
        ]
        found[case] = {**one, "problem": "; ".join(filter(None, [one["problem"], *gone]))}
    return found


def _absent(cases: Mapping[str, _Case]) -> Iterator[str]:
    """Data that is on neither side, such as the example in a header, each once."""
    paths = dict.fromkeys(
        path for one in cases.values() for path in one["absent"].values() if f"data: {path} " not in one["problem"]
    )
    for path in paths:
        yield f"data: {clean(path)} is not here: rows, steps and time are not told"


def _change(case: str, old: _Case | None, new: _Case | None, groups: list[str]) -> Change | None:
    """What becomes of a case; None where it is the same, or where only one side looks at a recipe on that preset."""
    if old is None or new is None:
        one = new or old
        assert one
        if one["preset"]:
            return None
        if new is None:
            return Change(case, "removed")
        own = {key: set_ for key, set_ in one.get("settings", {}).items() if set_[1].startswith(f"{one['file']},")}
        figures = tuple(_figures({}, one.get("figures", {})))
        return Change(case, "added", tuple(_values({}, own)), tuple(again({}, one)), figures, ("", _why_not(one)))
    errors = (_why_not(old), _why_not(new))
    if old["error"] or new["error"]:
        if errors[0] != errors[1] and not (old["error"] and new["error"]):
            return Change(case, "broken" if new["error"] else "mended", errors=errors)
        touched = old["said"] != new["said"] or any(path in old["files"] or path in new["files"] for path in groups)
        return Change(case, "stuck", errors=errors) if touched or errors[0] != errors[1] else None
    values = tuple(_values(old["settings"], new["settings"]))
    stages = tuple(again(old, new))
    figures = tuple(_figures(old.get("figures", {}), new.get("figures", {}))) if not any(errors) else ()
    dropped = tuple(name for name in old.get("stages", {}) if new.get("stages") and name not in new["stages"])
    kind = "changed" if not any(errors) else "mended" if not errors[1] else "stuck" if errors[0] else "broken"
    if not (values or stages or figures or dropped) and errors[0] == errors[1]:
        return None
    return Change(case, kind, values, stages, figures, errors, dropped)


def _why_not(case: _Case) -> str:
    return clean(case["error"] or case["problem"])


def _renamed(old: Mapping[str, _Case], new: Mapping[str, _Case]) -> Iterator[tuple[str, str]]:
    """Recipes that are gone, each with one that came and is the same but for its name."""
    free = [case for case in new if case not in old]
    for case in [case for case in old if case not in new]:
        same = next((other for other in free if _substance(old[case]) == _substance(new[other])), None)
        if same and not old[case]["error"]:
            free.remove(same)
            yield case, same


def _substance(case: _Case) -> Any:
    """What of a case is not its name or the place of a line."""
    settings = {key: value for key, (value, _) in case.get("settings", {}).items()}
    if settings.get("name") == case["recipe"]:
        del settings["name"]
    stages = {name: made["fingerprint"] for name, made in case.get("stages", {}).items()}
    told = {name: told for name, (_, told) in case.get("figures", {}).items()}
    return settings, stages, case["problem"], case["preset"], told


def _values(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Value]:
    for key in [*new, *(key for key in old if key not in new)]:
        before, after = old.get(key), new.get(key)
        if before is None or after is None or before[0] != after[0] or type(before[0]) is not type(after[0]):
            yield Value(
                key,
                before and text(key, before[0]),
                after and text(key, after[0]),
                clean(before[1]) if before else "",
                clean(after[1]) if after else "",
            )


def _figures(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Figure]:
    for name in dict.fromkeys([*old, *new]):
        (before, was), (after, now) = old.get(name, (None, None)), new.get(name, (None, None))
        if was != now:
            yield Figure(name, was, now, before, after)
