"""A run that is settled: every value filled in, and the reason for each one that nobody wrote down."""

from dataclasses import dataclass, field
from typing import Any

from sft_runner.config.schema import Config


@dataclass(frozen=True)
class Decision:
    """A value that was left open and has been filled in."""

    key: str
    """Its key."""
    value: Any
    """What it became."""
    reason: str
    """Why."""
    approximates: bool = False
    """Whether it comes from the hardware preset and changes what is learned."""


@dataclass(frozen=True)
class Run:
    """One run, ready to be planned."""

    config: Config
    """Every value that runs."""
    choices: dict[str, str] = field(default_factory=dict)
    """The chosen file of each group: `{"hardware": "rtx3060"}`."""
    overrides: tuple[str, ...] = ()
    """What stood on the command line."""
    decisions: tuple[Decision, ...] = ()
    """What was filled in, and why."""
    warnings: tuple[str, ...] = ()
    """What may be wrong although it can run, one sentence each."""
    composed: Config | None = None
    """What was asked for, its open values still open: from there on the plan tries what else would fit."""
