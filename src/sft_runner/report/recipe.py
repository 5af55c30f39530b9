"""What was asked: the recipe's own text, the command, and what the program filled in and why."""

import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sft_runner.config import sources
from sft_runner.report.record import Record
from sft_runner.tracking.safe import masked

MOST = 20_000
"""Characters of a recipe that are shown."""


def text(record: Record) -> tuple[str, str]:
    """The recipe's place and its text as it is now; both empty where the run has none."""
    name = (record.known.get("choices") or {}).get("recipe")
    recipe = sources.recipes().get(str(name)) if name else None
    if recipe is None:
        return "", ""
    try:
        return sources.shown(recipe.path), masked(recipe.path.read_text(encoding="utf-8", errors="replace"))[:MOST]
    except OSError:
        return "", ""


def command(record: Record) -> str:
    """The command line of the run, as a shell takes it."""
    return shlex.join(["python", "-m", "sft_runner", *map(str, record.known.get("overrides") or ())])


def decisions(record: Record) -> list[Mapping[str, Any]]:
    """What was left open and has been filled in: key, value, reason, approximates; those that change learning first."""
    found = [one for one in record.plan.get("decisions") or () if isinstance(one, Mapping) and "key" in one]
    return sorted(found, key=lambda one: not one.get("approximates"))


def commit(folder: Path | None = None) -> str:
    """The commit of the git repository around the recipe, so that a report can be traced; empty where there is none."""
    words = ["git", "-c", "core.fsmonitor=false", "rev-parse", "HEAD"]
    try:
        ended = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return ended.stdout.strip() if ended.returncode == 0 else ""
