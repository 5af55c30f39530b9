"""What differs between two sides, recipe by recipe: settings, stages that would run again, and what it costs."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sft_runner.masking import masked
from sft_runner.review.diff.sides import Sides

SECRET = re.compile(r"(^|[._-])(token|secret|password|passwd|api_?key|access_?key|credentials?)$", re.IGNORECASE)
"""Names whose values are never shown."""
HIDDEN = "***"
CAUSES = 3
"""Causes of a stage that are told."""
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
class Again:
    """A stage whose output would be made anew."""

    stage: str
    """Its name."""
    why: str
    """The first cause: `train.learning_rate 0.0002 → 0.0001`, `because prepare runs`."""


@dataclass(frozen=True)
class Figure:
    """A number of the plan that differs."""

    name: str
    """What is counted."""
    old: str | None
    """Before; None where it is not known."""
    new: str | None
    """After."""


@dataclass(frozen=True)
class Change:
    """One recipe that a change touches."""

    case: str
    """The recipe, with the preset where it is not that of its header: `code hardware=rtx3060`."""
    kind: str
    """`changed`, `added`, `removed`, `broken` or `mended`."""
    values: tuple[Value, ...] = ()
    """Settings that differ; of one that is added, those that it says itself."""
    stages: tuple[Again, ...] = ()
    """Stages that would run again."""
    figures: tuple[Figure, ...] = ()
    """What the plan says otherwise."""
    errors: tuple[str, str] = ("", "")
    """Why it cannot run, before and after."""
    fingerprints: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    """Stage that would run again -> its fingerprint before and after."""


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
    """Recipes that no side can resolve, with the reason: nothing is known of what changes."""
    notes: list[str] = field(default_factory=list)
    """What a person should know of how the sides were compared."""


def changes(found: Sides) -> Difference:
    """The difference of two sides."""
    old, new = dict(found.old), dict(found.new)
    renamed = list(_renamed(old, new))
    for before, after in renamed:
        del old[before], new[after]
    changed = [change for case in sorted({*old, *new}) if (change := _change(case, old.get(case), new.get(case)))]
    looked = [
        one
        for side in (old, new)
        for case, one in side.items()
        if case in old and case in new or " hardware=" not in case
    ]
    used = {path for one in looked for path in one.get("files", ())}
    unused = [path for path in found.groups if path not in used]
    broken = [
        (case, masked(one["error"]))
        for case, one in new.items()
        if one["error"] and case in old and old[case]["error"] == one["error"] and " hardware=" not in case
    ]
    return Difference(found.told, changed, renamed, unused, broken, found.notes)


def _change(case: str, old: _Case | None, new: _Case | None) -> Change | None:
    """What becomes of a case; None where it is the same, or where only one side looks at a recipe on that preset."""
    if old is None or new is None:
        one = new or old
        assert one
        if " hardware=" in case:
            return None
        if new is None:
            return Change(case, "removed")
        figures = tuple(Figure(name, None, told) for name, (_, told) in one.get("figures", {}).items())
        stages = tuple(Again(name, "first time") for name in one.get("stages", ()))
        own = {key: set_ for key, set_ in one.get("settings", {}).items() if set_[1].startswith(f"{one['file']},")}
        return Change(case, "added", tuple(_values({}, own)), stages, figures, ("", _why_not(one)))
    errors = (_why_not(old), _why_not(new))
    if old["error"] or new["error"]:
        if errors[0] == errors[1]:
            return None
        return Change(case, "broken" if new["error"] else "mended", errors=errors)
    values = tuple(_values(old["settings"], new["settings"]))
    stages = tuple(_stages(old, new))
    figures = tuple(_figures(old.get("figures", {}), new.get("figures", {})))
    if errors[0] != errors[1]:
        kind = "broken" if new["problem"] else "mended"
        return Change(case, kind, values, stages, figures if not any(errors) else (), errors)
    if not (values or stages or figures):
        return None
    sides = (old.get("stages", {}), new.get("stages", {}))
    fingerprints = {
        again.stage: (_fingerprint(sides[0], again.stage), _fingerprint(sides[1], again.stage)) for again in stages
    }
    return Change(case, "changed", values, stages, figures, errors, fingerprints)


def _fingerprint(stages: Mapping[str, Any], stage: str) -> str | None:
    return str(stages[stage]["fingerprint"]) if stage in stages else None


def _why_not(case: _Case) -> str:
    return masked(case["error"] or case["problem"])


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
    return settings, stages, case["problem"], {name: told for name, (_, told) in case.get("figures", {}).items()}


def _values(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Value]:
    order = [*new, *(key for key in old if key not in new)]
    for key in order:
        before, after = old.get(key), new.get(key)
        if before is None or after is None or before[0] != after[0]:
            yield Value(
                key,
                before and text(key, before[0]),
                after and text(key, after[0]),
                masked(before[1]) if before else "",
                masked(after[1]) if after else "",
            )


def text(key: str, value: Any) -> str:
    """A value as a recipe would have it; never a secret."""
    if SECRET.search(key) and value is not None:
        return HIDDEN
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return masked(value) or "''"
    if isinstance(value, list):
        return f"[{', '.join(text(key, part) for part in value)}]"
    return masked(json.dumps(value, ensure_ascii=False))


def _figures(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Figure]:
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name, (0, None))[1], new.get(name, (0, None))[1]
        if before != after:
            yield Figure(name, before, after)


def _stages(old: _Case, new: _Case) -> Iterator[Again]:
    """The stages that would run again, each with its first cause."""
    was, now = old.get("stages", {}), new.get("stages", {})
    again = [name for name in now if name not in was or was[name]["fingerprint"] != now[name]["fingerprint"]]
    for name in again:
        if name not in was:
            yield Again(name, "was not asked for")
            continue
        own = list(_causes(name, old, new))
        first = next((stage for stage in now[name]["inputs"] if stage in again), None)
        rest = f" and {len(own) - CAUSES} more" if len(own) > CAUSES else ""
        yield Again(name, ", ".join(own[:CAUSES]) + rest if own else f"because {first} runs" if first else "")
    yield from (Again(name, "is not asked for any more") for name in was if now and name not in now)


def _causes(name: str, old: _Case, new: _Case) -> Iterator[str]:
    """What a stage itself reads otherwise."""
    was, now = old["stages"][name], new["stages"][name]
    if was["version"] != now["version"]:
        yield f"version {was['version']} → {now['version']}"
    for key in sorted({*was["config"], *now["config"]}):
        if was["config"].get(key) == now["config"].get(key) and (key in was["config"]) == (key in now["config"]):
            continue
        before, after = _said(key, old, was["config"]), _said(key, new, now["config"])
        if before == after:
            yield f"{key} {'counts too' if key in now['config'] else 'counts no longer'}"
        elif before.startswith("{") or after.startswith("{"):
            yield key
        else:
            yield f"{key} {before} → {after}"
    if was["model"] != now["model"]:
        yield "the tokenizer differs" if name == "prepare" else "the model differs"
    if was["data"] != now["data"]:
        names = (old.get("data", {}), new.get("data", {}))
        every = {**names[0], **names[1]} if all(names) else {}
        files = [path for path in every if names[0].get(path) != names[1].get(path)]
        more = f" and {len(files) - CAUSES} more" if len(files) > CAUSES else ""
        yield f"the bytes of {', '.join(files[:CAUSES])}{more}" if files else "the data differs"


def _said(key: str, case: _Case, config: Mapping[str, Any]) -> str:
    """The value of a key that counts for a stage, or that does not because it is neutral."""
    if key in config:
        return text(key, config[key])
    return text(key, case["settings"][key][0]) if key in case["settings"] else "–"
