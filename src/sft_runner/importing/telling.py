"""The lists for people and for programs: what was carried, changed, without effect, lost, and unknown."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sft_runner.importing.draft import CARRIED, CHANGED, LISTS, NO_EFFECT, NOT_CARRIED, UNKNOWN, Draft, Finding, typed

TITLES = {
    CARRIED: "carried over",
    CHANGED: "carried over with another meaning",
    NO_EFFECT: "without effect here",
    NOT_CARRIED: "not carried over",
    UNKNOWN: "unknown",
}
"""List -> its title."""
LONGEST = 60
"""Characters of a value that are shown."""


def report(draft: Draft, lines: dict[str, int], origin: Path, recipe: Path, refused: str) -> str:
    """All lists, and what to do next."""
    found = [f"{origin} is a configuration of {draft.program}; {recipe} has what it says"]
    for kind in LISTS:
        of_kind = [finding for finding in draft.findings if finding.kind == kind]
        if of_kind:
            found += ["", f"{TITLES[kind]} ({len(of_kind)})", *_entries(of_kind, lines)]
    if draft.assumed:
        found += [
            "",
            f"left open there, and {draft.program} takes something else than is taken here ({len(draft.assumed)})",
        ]
        found += [f"  {one.key}={typed(one.value)}: {one.note}" for one in draft.assumed]
    if draft.todo:
        found += [
            "",
            f"to do before it runs as it did there ({len(draft.todo)})",
            *(f"  - {todo}" for todo in draft.todo),
        ]
    if refused:
        found += ["", "it would be refused as it stands", *(f"  {line}" for line in refused.splitlines())]
    return "\n".join(found)


def as_json(draft: Draft, lines: dict[str, int], origin: Path, recipe: Path, kind: str, refused: str) -> dict[str, Any]:
    """The same for programs."""
    lists = {name: [_entry(one, lines) for one in draft.findings if one.kind == name] for name in LISTS}
    return {
        "file": str(origin),
        "from": kind,
        "recipe": str(recipe),
        **lists,
        "assumed": [{"key": one.key, "value": one.value, "note": one.note} for one in draft.assumed],
        "words": [f"{key}={value}" for key, value in sorted(draft.words.items())],
        "to_do": draft.todo,
        "refused": refused or None,
    }


def _entry(finding: Finding, lines: dict[str, int]) -> dict[str, Any]:
    return {
        "key": finding.key,
        "value": finding.value,
        "line": lines.get(finding.key),
        "became": finding.ours or None,
        "note": finding.note or None,
    }


def _entries(findings: Iterable[Finding], lines: dict[str, int]) -> Iterable[str]:
    """One line for each key; those without effect, and with the same reason, share one."""
    shared: dict[str, list[str]] = {}
    for finding in findings:
        if finding.kind == NO_EFFECT:
            shared.setdefault(finding.note, []).append(finding.key)
            continue
        line = f"line {lines[finding.key]}: " if finding.key in lines else ""
        said = f"{finding.key}: {_short(finding.value)}" if finding.value != "" else finding.key
        became = f" -> {_short(finding.ours)}" if finding.ours else ""
        yield f"  {line}{said}{became}" + (f"\n      {finding.note}" if finding.note else "")
    for note, keys in shared.items():
        yield f"  {', '.join(keys)}\n      {note}"


def _short(value: Any) -> str:
    shown = "".join(sign if sign.isprintable() else " " for sign in typed(value))
    return shown if len(shown) <= LONGEST * 2 else shown[: LONGEST * 2 - 3] + "..."
