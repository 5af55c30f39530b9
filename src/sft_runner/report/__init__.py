"""The page of a run: what was asked, what was planned, what happened, and what proves it."""

import os
import sys
from pathlib import Path

from sft_runner.disk import explained, sync_folder
from sft_runner.outcome import Outcome
from sft_runner.planning import Plan
from sft_runner.runs import RunFolder

PAGE, SUMMARY = "report.html", "report.md"
"""What is written into the run folder: the page, and the same in short for a pull request."""


def write(plan: Plan, outcome: Outcome, folder: RunFolder) -> list[Path]:
    """Write the report of a run into its folder; returns its files. What goes wrong here is told and ends nothing."""
    try:
        return _write(plan, outcome, folder)
    except Exception as error:  # a run must not fail for its report
        print(f"warning: the run's report could not be written: {type(error).__name__}: {error}", file=sys.stderr)
        return []


def _write(plan: Plan, outcome: Outcome, folder: RunFolder) -> list[Path]:
    from sft_runner.report.cleaning import clean
    from sft_runner.report.markdown import markdown
    from sft_runner.report.page import page, parts, problems
    from sft_runner.report.record import of

    record = clean(of(plan, outcome, folder))
    made = parts(record)
    if wrong := problems(made):
        print(f"warning: the run's report lacks a part: {'; '.join(wrong)}", file=sys.stderr)
    texts = {PAGE: page(record, made), SUMMARY: markdown(record, made)}
    for name, text in texts.items():
        keep(folder.path / name, text)
    return [folder.path / name for name in texts]


def keep(path: Path, text: str) -> None:
    """Write a text aside, sync it, rename it; its folder is made. Half a surrogate, which no file can hold, becomes a
    question mark."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(aside, "w", encoding="utf-8", errors="replace") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
            sync_folder(path.parent)
        finally:
            aside.unlink(missing_ok=True)
