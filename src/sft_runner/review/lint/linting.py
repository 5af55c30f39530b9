"""All rules over all files that are looked at."""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sft_runner.config.sources import folders, forget, steady, without_local
from sft_runner.errors import UserError
from sft_runner.review.lint import entries, headers, ignores, paths, places, records, runs, safety, sense, values
from sft_runner.review.lint.finding import NOTE, SEVERITIES, Finding
from sft_runner.review.lint.placing import told
from sft_runner.review.lint.rule import Rule
from sft_runner.review.lint.secret import secrets, without
from sft_runner.review.lint.subject import RECIPE, Subject
from sft_runner.review.lint.subjects import subjects, users

FAMILIES = (values, entries, runs, sense, headers, paths, places, records, safety, ignores)
"""The modules whose rules there are."""
RULES = {one.name: one for family in FAMILIES for one in vars(family).values() if isinstance(one, Rule)}
"""Name -> rule."""
FOLDERS = ("recipes", "conf")
"""Where they lie, in a project's folder."""
KINDS = (".yaml", ".yml", ".lock", ".results.md")
"""How the names of files end that are looked at."""


@dataclass(frozen=True)
class Report:
    """What came of it."""

    findings: tuple[Finding, ...]
    """File by file, from top to bottom."""
    files: int
    """How many were looked at."""
    own: int = 0
    """How many of them are the user's own, not shipped ones."""
    skipped: tuple[Path, ...] = ()
    """Those of the files asked for that are no recipe, no choice and nothing beside one."""

    def count(self, severity: str) -> int:
        """How many findings are that bad."""
        return Counter(finding.severity for finding in self.findings)[severity]


def lint(files: Sequence[Path] = ()) -> Report:
    """Look at these files and at the recipes that are made of them; without any, at all. A file of another project's
    folder is looked at there. Raises `UserError` for a file that does not exist."""
    forget()
    with steady(), without_local():
        return _asked(files) if files else looked_at(subjects())


def _asked(files: Sequence[Path]) -> Report:
    homes: dict[Path, list[Path]] = {}
    skipped: list[Path] = []
    expanded = _expanded(files)
    for path in expanded:
        home = _home(path)
        homes.setdefault(home, []).append(path) if home else skipped.append(path)
    reports = []
    for home, asked in homes.items():
        with contextlib.chdir(home):
            everything = subjects()
            chosen = [one for one in everything if _real(one.path) in asked]
            skipped += [path for path in asked if path not in {_real(one.path) for one in chosen}]
            broken = [one for one in everything if one.breaks and one not in chosen]  # nothing else composes then
            reports.append(looked_at([*broken, *chosen, *users(chosen, everything)]))
    findings = tuple(finding for report in reports for finding in report.findings)
    looked, own = sum(report.files for report in reports), sum(report.own for report in reports)
    return Report(findings, looked, own, tuple(filter(expanded.get, skipped)))


def looked_at(asked: Sequence[Subject]) -> Report:
    """Look at these files, and at no other."""
    with without_local():
        found = [_of_hiding(subject, *finding, asked) for subject in asked for finding in _in(subject)]
    known = {(one.path, one.message) for one, origins in found if not origins}
    left: dict[Path, list[Finding]] = {subject.path: [] for subject in asked}
    for finding, origins in found:
        if not origins:
            left[finding.path].append(finding)
        elif not any((path, finding.message) in known for path, _ in origins):  # else it is told there
            left[finding.path].append(replace(finding, message=f"{finding.message} ({told(*origins[0])})"))
    findings = [finding for subject in asked for finding in _sorted(ignores.kept(subject, left[subject.path], RULES))]
    return Report(tuple(findings), len(asked), sum(subject.own for subject in asked))


Found = tuple[Finding, tuple[tuple[Path, int], ...]]
"""A finding with its origins in other files."""


def _of_hiding(
    subject: Subject, finding: Finding, origins: tuple[tuple[Path, int], ...], asked: Sequence[Subject]
) -> Found:
    """What is wrong with a shipped recipe since a file of the user's own is taken instead of a shipped one is told at
    that file."""
    hiding = [one for one in asked if one.shadowed]
    if subject.own or subject.kind != RECIPE or not hiding or finding.severity == NOTE:
        return finding, origins
    found = subject.composition and subject.composition.found
    read = {said.place.file for words in found.said.values() for said in words} if found else set()
    at = next((one for one in hiding if one.path in read), hiding[0])
    text = f"the shipped recipe={subject.name} does not go with this file: {finding.message}"
    return replace(finding, path=at.path, line=1, column=1, message=text), ()


def _expanded(files: Sequence[Path]) -> dict[Path, bool]:
    """The files, those of folders too, absolute; and whether each was named itself."""
    found: dict[Path, bool] = {}
    for path in files:
        if not os.path.lexists(path):
            hint = "name recipes or files of conf, or none for all"
            raise UserError(f"{path}: there is no such file or folder", hint)
        if path.is_dir():
            parts = [part for name in FOLDERS if (part := path / name).is_dir()] or [path]
            inside = [one for part in parts for one in sorted(part.rglob("*")) if one.name.endswith(KINDS)]
            found = {_real(one): False for one in inside} | found
        else:
            found[_real(path)] = True
    return found


def _real(path: Path) -> Path:
    """The absolute path; a file that is a link stays the one that it is called."""
    return path.parent.resolve() / path.name


def _home(path: Path) -> Path | None:
    """The project's folder: this one, or the one above `recipes` or `conf`, of several the nearest to the file."""
    if not path.name.endswith(KINDS):
        return None
    if any(path.is_relative_to(folder.resolve()) for name in FOLDERS for folder in folders(name)):
        return Path.cwd()
    return next((above.parent for above in path.parents if above.name in FOLDERS), None)


def _in(subject: Subject) -> Iterator[Found]:
    """What all rules find in a file, each once, without the secrets in it."""
    seen = set()
    for rule in RULES.values():
        for remark in rule.look(subject) if subject.kind in rule.kinds else ():
            line = min(max(remark.line, 1), len(subject.lines) or 1)
            message, hint = remark.message, remark.hint
            if rule is not safety.secret:  # its text is fixed
                message, hint = _masked(subject, message), _masked(subject, hint)
            if (line, rule.name, message) not in seen:
                seen.add((line, rule.name, message))
                made = Finding(
                    subject.path, line, _column(subject, line, remark.word), rule.severity, rule.name, message, hint
                )
                yield made, remark.origins


def _masked(subject: Subject, text: str) -> str:
    """A text without the secrets of the file, and without those of another that it may repeat."""
    return without(text, [*subject.secrets, *secrets(text.splitlines())])


def _column(subject: Subject, line: int, word: str) -> int:
    """Where a word begins in a line, from 1; 1 where it does not stand there."""
    text = subject.lines[line - 1] if subject.lines and word else ""
    found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text)
    return found.start() + 1 if found else 1


def _sorted(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda one: (one.line, one.column, SEVERITIES.index(one.severity), one.rule))
