"""What lint found, for a terminal, for GitHub and for programs."""

import json
from collections.abc import Iterator

from sft_runner.config.sources import shown
from sft_runner.review.annotation import annotation
from sft_runner.review.lint.finding import ERROR, NOTE, SEVERITIES, WARNING
from sft_runner.review.lint.linting import RULES, Report

COLOURS = {ERROR: "31", WARNING: "33", NOTE: "36"}
"""ANSI: red, yellow, cyan."""
COMMANDS = {ERROR: "error", WARNING: "warning", NOTE: "notice"}
"""Severity -> GitHub's word for it."""


def text(report: Report, colour: bool = False) -> Iterator[str]:
    """A line for each finding, its hint below it, and the sum."""

    def painted(words: str, code: str) -> str:
        return f"\033[{code}m{words}\033[0m" if colour else words

    for number, one in enumerate(report.findings):
        if number and one.path != report.findings[number - 1].path:
            yield ""
        where = painted(f"{shown(one.path)}:{one.line}", "1")
        yield f"{where}: {painted(one.severity, COLOURS[one.severity])}: {one.message} [{one.rule}]"
        yield from (f"  {line}".rstrip() for line in one.hint.splitlines())
    yield from [""] if report.findings else []
    yield _sum(report)


def github(report: Report) -> Iterator[str]:
    """Workflow commands, which GitHub shows beside the lines of a pull request."""
    for one in report.findings:
        said = f"{one.message}\n{one.hint}" if one.hint else one.message
        title = f"sft-runner lint: {one.rule}"
        yield annotation(COMMANDS[one.severity], one.path, one.line, title, said, one.column)
    yield _sum(report)


def as_json(report: Report) -> str:
    """For programs."""
    found = [{**vars(one), "path": shown(one.path)} for one in report.findings]
    counts = {f"{kind}s": report.count(kind) for kind in SEVERITIES}
    return json.dumps(
        {"files": report.files, "own": report.own, **counts, "findings": found}, indent=1, ensure_ascii=False
    )


def rules() -> Iterator[str]:
    """Every rule with its severity and what it finds."""
    width = max(map(len, RULES))
    for one in RULES.values():
        yield f"{one.name:<{width}}  {one.severity:<7}  {one.help}"


def _sum(report: Report) -> str:
    files = _counted(report.files, "file")
    if report.own < report.files:
        files += f" ({report.own} of your own, {report.files - report.own} shipped)"
    return f"{files}: {', '.join(_counted(report.count(kind), kind) for kind in SEVERITIES)}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
