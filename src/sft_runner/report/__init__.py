"""The page of a run: what was asked, what was planned, what happened, and what proves it."""

from pathlib import Path

from sft_runner.outcome import Outcome
from sft_runner.planning import Plan
from sft_runner.runs import RunFolder


def write(plan: Plan, outcome: Outcome, folder: RunFolder) -> list[Path]:
    """Write the report of a run into its folder; returns its files."""
    return []
