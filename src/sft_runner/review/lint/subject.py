"""A file that is looked at, with all that rules ask of it; each part is made when the first rule wants it."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sft_runner.config.composing import in_file
from sft_runner.config.sources import ConfigFile, choice, group_of, read, recipes, shown
from sft_runner.errors import UserError
from sft_runner.review.cases import case, said
from sft_runner.review.lint.composition import Composition, baseline, compose, jobs
from sft_runner.review.lint.finding import Remark
from sft_runner.review.lint.secret import Secret, secrets

RECIPE, CHOICE, MAIN, LOCK, RECORD, UNREAD = "recipe", "choice", "main", "lock", "record", "unread"
"""Kinds: a recipe, the file of a choice in `conf/`, `conf/sft.yaml`, a lock, a record, and what nothing reads."""
LOCAL = "local"
"""The group of this machine's own settings, which are not checked in."""


@dataclass(eq=False)
class Subject:
    """One file."""

    path: Path
    """Absolute."""
    kind: str
    """One of the kinds above."""
    group: str = ""
    """`recipe`, or the folder in `conf/`."""
    own: bool = True
    """Whether it is the user's, not a shipped one."""
    shadowed: Path | None = None
    """The shipped file of the same name that it hides."""

    @property
    def name(self) -> str:
        """What it is chosen by: `code` of `recipes/code.yaml` and of `recipes/code.lock`."""
        return self.path.name.removesuffix(".results.md") if self.kind == RECORD else self.path.stem

    @cached_property
    def text(self) -> str:
        """Its text; what is not UTF-8 in it is replaced."""
        try:
            return self.path.read_bytes().decode("utf-8", errors="replace")
        except OSError:  # `file` tells of it
            return ""

    @cached_property
    def lines(self) -> list[str]:
        """Its lines as YAML counts them; the first is at 0."""
        return re.split(r"\r\n|[\r\n\x85\u2028\u2029]", self.text)

    @cached_property
    def file(self) -> ConfigFile:
        """What it says."""
        known = recipes().get(self.name) if self.kind == RECIPE else None
        return known if known and known.path == self.path else read(self.path)

    @cached_property
    def mistakes(self) -> list[UserError]:
        """What the pipeline refuses of it before anything is composed."""
        return in_file(self.group, self.file)

    @property
    def composition(self) -> Composition | None:
        """The run that its command asks for; None where there is none. Of a sweep the first."""
        return next(iter(self.compositions), None)

    @cached_property
    def compositions(self) -> list[Composition]:
        """The runs that its command asks for, of a choice the run with the defaults; none where something is wrong
        already, in the file or in conf/sft.yaml."""
        if self.mistakes or self.refused or self.file.values is None or self.main_broken:
            return []
        if self.kind == RECIPE:
            words = case(self.name).words
            swept = re.search(r"runner\b.*\s(-m|--multirun)\s", f"{self.file.header.get('command')} ")
            return [compose(job) for job in jobs(words)] if swept else [compose(words)]
        if self.kind == MAIN:
            return [baseline(os.getcwd())]
        if (
            self.kind == CHOICE and self.group != LOCAL and self.own
        ):  # a shipped one was looked at before it was shipped
            others = [] if self.group == "hardware" else ["hardware=cpu"]
            added = "" if self.group in main_groups() else "+"  # a group of the user's own, in which recipes choose
            return [compose([added + said(self.group, self.name), *others])]
        return []

    @cached_property
    def refused(self) -> list[Remark]:
        """What is wrong with the lines of its `defaults:`."""
        from sft_runner.review.lint.entries import wrong  # which looks at subjects

        return list(wrong(self)) if self.kind in (RECIPE, CHOICE) else []

    @property
    def main_broken(self) -> bool:
        """Whether nothing can be composed, as the user's own conf/sft.yaml is broken: that is told there."""
        main = choice("", "sft")
        if self.kind == MAIN or main is None or not main.path.is_relative_to(Path.cwd()):
            return False
        return Subject(main.path, MAIN).breaks

    @cached_property
    def breaks(self) -> bool:
        """Whether this is a conf/sft.yaml that breaks every run."""
        return self.kind == MAIN and self.own and (bool(self.mistakes) or baseline(os.getcwd()).found is None)

    @cached_property
    def settings(self) -> dict[str, tuple[tuple[str, ...], Any]]:
        """Key in the whole configuration -> its path in this file, and its value, also inside free dictionaries."""
        values = {key: value for key, value in (self.file.values or {}).items() if key != "defaults"}
        package = "" if self.kind in (RECIPE, MAIN) else self.file.package("" if self.group == LOCAL else self.group)
        above = f"{package}." if package else ""
        return {above + ".".join(path): (path, value) for path, value in _leaves(values, ())}

    @cached_property
    def chosen(self) -> dict[str, tuple[int, str]]:
        """Group -> the line of `defaults:` that chooses in it, and what it chooses."""
        found: dict[str, tuple[int, str]] = {}
        for number, line in enumerate(self.lines, 1):
            if entry := re.match(r"\s*-\s*(?:override\s+|optional\s+)*/([\w/]+)(?:@\S+)?:\s*([^#]*)", line):
                found[entry[1]] = number, entry[2].strip()
        entries = (self.file.values or {}).get("defaults")
        for listed in entries if isinstance(entries, list) else ():
            for key, name in listed.items() if isinstance(listed, dict) else ():  # in one line, or in quotes
                found.setdefault(group_of(str(key)), (self.line_of(("defaults",)), str(name)))
        return found

    @cached_property
    def secrets(self) -> list[Secret]:
        """What must not be repeated."""
        return list(secrets(self.lines))

    def line_of(self, path: tuple[str, ...]) -> int:
        """The line of a key in this file."""
        return self.file.line(path)

    def line_of_header(self, key: str) -> int:
        """The line of `# command: ...` and the like; 1 where there is none."""
        lines = enumerate(self.lines, 1)
        return next((number for number, line in lines if re.match(rf"#\s*{key}\s*:", line)), 1)

    def placed(self, message: str) -> tuple[str, int | None]:
        """A message without `recipes/mine.yaml, line 7: ` before it, and that line; None where it names none."""
        if at := re.match(rf"{re.escape(shown(self.path))}(?:, line (\d+))?: ", message):
            return message[at.end() :], int(at[1] or 1)
        return message, None


def main_groups() -> set[str]:
    """The groups in which conf/sft.yaml chooses."""
    main = choice("", "sft")
    return chooses(main) if main else set()


def chooses(file: ConfigFile) -> set[str]:
    """The groups in which a file chooses, also where it does so over another one."""
    entries = (file.values or {}).get("defaults")
    listed = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return {group_of(str(key)) for entry in listed for key in entry}


def _leaves(values: dict[str, Any], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value that is no mapping, with its path; an empty mapping is one."""
    for key, value in values.items():
        path = (*above, str(key))
        if isinstance(value, dict) and value:
            yield from _leaves(value, path)
        else:
            yield path, value
