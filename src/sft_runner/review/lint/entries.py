"""The rule about the lines of `defaults:`, one by one: Hydra stops at the first, and tells it in its own words."""

from collections.abc import Iterator

from sft_runner.config.sources import ConfigFile, choice, group_of, groups
from sft_runner.errors import suggestion
from sft_runner.review.lint.finding import ERROR, Remark
from sft_runner.review.lint.rule import rule
from sft_runner.review.lint.subject import CHOICE, RECIPE, Subject, chooses, main_groups

MARKS = ("override", "optional")
"""What may stand before a group."""


@rule(ERROR, RECIPE, CHOICE)
def defaults(subject: Subject) -> Iterator[Remark]:
    """A line of `defaults:` that Hydra refuses, or does not take as it is meant: `override` or the slash is missing, a
    parent is not there or stands below an override, or two lines choose in one group."""
    yield from subject.refused


def wrong(subject: Subject) -> Iterator[Remark]:
    """What that rule finds."""
    entries = (subject.file.values or {}).get("defaults")
    taken = _taken(subject)
    chosen: dict[str, int] = {}
    overrides = 0
    for number, entry in enumerate(entries if isinstance(entries, list) else ()):
        line = subject.line_of(("defaults", str(number)))
        if isinstance(entry, str) and entry != "_self_":
            yield from _parent(subject, entry, line, overrides)
        elif not isinstance(entry, str | dict):
            yield Remark(line, f"'{entry}' is no name and no choice", "write - override /GROUP: NAME")
        for key in entry if isinstance(entry, dict) else ():
            *marks, last = str(key).split() or [""]
            group = group_of(last)
            if group.startswith("hydra"):
                continue
            for mark in [one for one in marks if one not in MARKS]:
                yield Remark(line, f"'{mark}' is no word for a choice", suggestion(mark, MARKS), mark)
            below = not last.startswith("/")
            if group in taken and (marks == ["override"] and below or not marks):
                said = f"write '- override /{group}: {entry[key]}'"
                yield Remark(line, f"'{key}' is no override, and {group} is chosen already", said, group)
            elif group in groups() and below and marks in ([], ["override"]):
                said = f"write '- /{group}: {entry[key]}'"
                yield Remark(line, f"'{key}' has no slash, and is looked for below {subject.group}", said, group)
            if group in chosen and ("override" in marks or not marks and group not in taken):
                yield Remark(line, f"{group} is chosen in line {chosen[group]} already", "keep one of them", group)
            chosen.setdefault(group, line)
            overrides = overrides or line * ("override" in marks)


def _taken(subject: Subject) -> set[str]:
    """The groups in which conf/sft.yaml, or a file that this one extends, chooses already."""
    found = main_groups()
    queue, seen = _parents(subject.file), set()
    while queue:
        name = queue.pop()
        if name not in seen and (file := choice(subject.group, name)):
            seen.add(name)
            found |= chooses(file)
            queue += _parents(file)
    return found


def _parents(file: ConfigFile) -> list[str]:
    """The names of the files that this one extends."""
    entries = (file.values or {}).get("defaults")
    names = (
        [entry.partition("@")[0] for entry in entries if isinstance(entry, str)] if isinstance(entries, list) else []
    )
    return [name for name in names if name != "_self_"]


def _parent(subject: Subject, name: str, line: int, overrides: int) -> Iterator[Remark]:
    """What is wrong with a file that this one extends; `overrides` is the line of the first override above it, or 0.
    That it is not there is told elsewhere."""
    group = "recipe" if subject.kind == RECIPE else subject.group
    plain = name.partition("@")[0]
    if overrides and choice(group, plain):
        yield Remark(line, f"'{name}' stands below an override (line {overrides})", "put it above", plain)
