"""Signs that a row is not what its author meant. They are told to the user, and never change the row."""

import re
from operator import eq

from sft_runner.data.row import Example

SUSPICIONS = {
    "placeholder": "A placeholder such as {{name}} was left in; the model would learn to write it.",
    "damaged_text": "The text has characters that stand for lost ones, or control characters.",
    "echo": "An answer only repeats its question.",
    "repeated": "An answer repeats one short piece over most of its length.",
}
"""Kind -> what it means, for reports."""

PROBE = 24
"""Characters in the middle of an answer that are looked for in the rest of it."""
LONG = 200
"""Shorter answers are not looked at for repetition: lists and verses repeat themselves too."""
COPIES = 5
"""A repeated piece stands there at least so often."""
MOST = 0.6
"""Share of the characters that are the same one piece later."""


def suspicions(example: Example) -> list[str]:
    """The kinds of `SUSPICIONS` that an example shows, in their order; cheap enough for every row."""
    found: set[str] = set()
    before = ""
    for message in example.messages:
        said = message["content"]
        _look_at(said, found)
        if message["role"] == "assistant":
            if said and said.strip() == before.strip():
                found.add("echo")
            if _repeats(said):
                found.add("repeated")
        before = said
    if fill := example.fill:
        for said in (fill.prefix, fill.middle, fill.suffix):
            _look_at(said, found)
    elif example.text:
        _look_at(example.text, found)
        if _repeats(example.text):
            found.add("repeated")
    if example.format == "python":
        found.discard("placeholder")  # doubled braces are how a format string writes single ones
    return [kind for kind in SUSPICIONS if kind in found] if found else []


_PLACEHOLDER = re.compile(r"(?<![$\\{])\{\{ ?[A-Za-z_]\w+ ?\}\}(?!\})")  # not GitHub's ${{ }}, not TeX's {{{
_DAMAGED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffd]")  # \x85 is a line break


def _look_at(written: str, found: set[str]) -> None:
    if "{" in written and _PLACEHOLDER.search(written):  # one character is found far faster than two
        found.add("placeholder")
    if _DAMAGED.search(written):
        found.add("damaged_text")


def _repeats(written: str) -> bool:
    """Whether a piece is said again and again: what covers more than half of a text covers its middle."""
    if len(written) < LONG:
        return False
    middle = len(written) // 2
    probe = written[middle : middle + PROBE]
    if written.count(probe) < COPIES:
        return False
    after = written.find(probe, middle + 1)
    period = after - middle if after > 0 else middle - written.rfind(probe, 0, middle + PROBE - 1)
    agreeing: int = sum(map(eq, written, written[period:]))
    return agreeing > MOST * len(written)
