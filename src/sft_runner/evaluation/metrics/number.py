"""Answers that are right or wrong by one thing in them: the final number, or what a pattern finds."""

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

_NUMBER = (
    r"(?P<sign>(?<![\w.)\]])[-−])?"  # behind a digit or a bracket it is an operator, before a space it marks a list
    r"(?:[$€£]\s?(?P<inner>[-−])?)?"
    r"(?P<digits>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|(?<![0-9])\.[0-9]+)"
    r"(?:[eE](?P<power>[-+]?[0-9]{1,3})(?![0-9A-Za-z]))?"
)
_ANY = re.compile(_NUMBER)
_MARKED = re.compile(r"####\s*" + _NUMBER)


def number(text: str) -> Decimal | None:
    """The number behind the last `####` (as GSM8K marks its answers) that has one, else the last number of the text.

    `1,000`, `$1000` and `1000.0` are the same; a percent sign says nothing.
    """
    found = list(_MARKED.finditer(text)) or list(_ANY.finditer(text))
    if not found:
        return None
    last = found[-1]
    digits = last["digits"].replace(",", "") + (f"e{last['power']}" if last["power"] else "")
    return -Decimal(digits) if last["sign"] or last["inner"] else Decimal(digits)


def equal(answer: str, expected: str) -> bool | None:
    """Whether both have the same number; None where none is expected."""
    wanted = number(expected)
    return None if wanted is None else number(answer) == wanted


@dataclass(frozen=True)
class Pattern:
    """What a regular expression finds first: its first group, or all of it where it has none."""

    text: str
    """The expression, as Python's `re` has it."""

    def equal(self, answer: str, expected: str) -> bool | None:
        """Whether it finds the same in both, but for space around it; None where it finds nothing in the expected."""
        wanted = self._found(expected)
        return None if wanted is None else self._found(answer) == wanted

    def _found(self, text: str) -> str | None:
        match = self._compiled.search(text)
        found = match and match[1 if self._compiled.groups else 0]
        return found.strip() if isinstance(found, str) else None

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.text)
