"""What was asked: the recipe's own text, the command, and what the program filled in and why."""

import shlex
from collections.abc import Mapping
from typing import Any

from sft_runner.masking import masked
from sft_runner.recipe import FILE
from sft_runner.report.record import Record

MOST = 20_000
"""Characters of a recipe that are shown."""


def text(record: Record) -> tuple[str, str]:
    """The recipe's place and its text as the run began with it; both empty where the run has none."""
    told = record.known.get("recipe")
    if not isinstance(told, Mapping):
        return "", ""
    try:
        kept = (record.folder / FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        kept = ""
    return str(told.get("file") or ""), masked(kept)[:MOST]


def command(record: Record) -> str:
    """The command line of the run, as a shell takes it."""
    return shlex.join(["python", "-m", "sft_runner", *map(str, record.known.get("overrides") or ())])


def decisions(record: Record) -> list[Mapping[str, Any]]:
    """What was left open and has been filled in: key, value, reason, approximates; those that change learning first."""
    found = [one for one in record.plan.get("decisions") or () if isinstance(one, Mapping) and "key" in one]
    return sorted(found, key=lambda one: not one.get("approximates"))


def commit(record: Record) -> str:
    """The commit of the git repository that the run began in, so that it can be traced; empty where there is none."""
    told = record.known.get("recipe")
    if not isinstance(told, Mapping) or not told.get("commit"):
        return ""
    return f"{told['commit']}{' + uncommitted changes' if told.get('changed') else ''}"
