"""The page of a run: what was asked, what was planned, what happened, and what proves it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sft_runner import seal
from sft_runner.disk import explained
from sft_runner.outcome import Outcome
from sft_runner.planning import Plan
from sft_runner.runs import RunFolder

if TYPE_CHECKING:
    from sft_runner.report.record import Record

PAGE, SUMMARY = "report.html", "report.md"
"""What is written into the run folder: the page, and the same in short for a pull request."""


def write(plan: Plan, outcome: Outcome, folder: RunFolder) -> list[Path]:
    """Write the report of a run into its folder; returns its files. What goes wrong here is told and ends nothing."""
    try:
        from sft_runner.report.record import of

        return make(of(plan, outcome, folder))
    except Exception as error:  # a run must not fail for its report
        return _failed(error)


def again(folder: Path) -> list[Path]:
    """The same for a run that is over, from what its folder says."""
    try:
        from sft_runner.report.record import read

        return make(read(folder))
    except Exception as error:  # nor must what only looks at a run
        return _failed(error)


def make(record: "Record") -> list[Path]:
    """Write the report of a run into its folder; returns its files. Raises `MachineError` where that cannot be."""
    from sft_runner.report.cleaning import clean
    from sft_runner.report.markdown import markdown
    from sft_runner.report.page import page, parts, problems

    record = clean(record)
    made = parts(record)
    if wrong := problems(made):
        print(f"warning: the run's report lacks a part: {'; '.join(wrong)}", file=sys.stderr)
    texts = {PAGE: page(record, made), SUMMARY: markdown(record, made)}
    contents = {name: text.encode("utf-8", "replace") for name, text in texts.items()}
    with explained(record.folder / PAGE):
        seal.rewrite(record.folder, contents)
    return [record.folder / name for name in texts]


def _failed(error: Exception) -> list[Path]:
    print(f"warning: the run's report could not be written: {type(error).__name__}: {error}", file=sys.stderr)
    return []
