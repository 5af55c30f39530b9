"""What lint has found: where, how bad, by which rule, and what to do."""

from dataclasses import dataclass
from pathlib import Path

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
"""The worst first: what cannot run or must not be checked in, what is likely not meant, what is good to know."""


@dataclass(frozen=True)
class Finding:
    """One thing in one line of one file."""

    path: Path
    """The file, absolute."""
    line: int
    """From 1."""
    column: int
    """From 1; where the key or the word begins, 1 where that is not known."""
    severity: str
    """One of `SEVERITIES`."""
    rule: str
    """The name of the rule, such as `unknown-key`."""
    message: str
    """What is wrong, in one sentence."""
    hint: str = ""
    """What to do."""


@dataclass(frozen=True)
class Remark:
    """A finding as a rule makes it: the rule does not know its own name, nor the file."""

    line: int
    """From 1."""
    message: str
    """What is wrong."""
    hint: str = ""
    """What to do."""
    word: str = ""
    """The key or the word in that line that it is about, for the column."""
    origins: tuple[tuple[Path, int], ...] = ()
    """File and line of other files that say what is wrong; where one of them has the same finding, one is enough."""
