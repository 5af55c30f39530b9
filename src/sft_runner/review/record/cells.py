"""Text as a cell of a Markdown table, and back: what a cell says must come out as it went in."""

import re
import shlex
from collections.abc import Sequence

NONE = "–"
"""A cell that says nothing."""
_PIPE = "\\|"
"""How a pipe is written inside of a cell, also between backticks."""
_CONTROL = {"&#": "&#38;#", "\n": "&#10;", "\r": "&#13;"}
"""What would break a line of the table -> how it is written; the first keeps the others clear."""


def split(line: str) -> list[str]:
    """The cells of a line of a table, unescaped. A pipe behind a backslash is one of the cell's own, as on GitHub."""
    inner = line.strip().removeprefix("|")
    inner = re.sub(r"(?<!\\)\|$", "", inner)
    return [cell.strip().replace(_PIPE, "|") for cell in re.split(r"(?<!\\)\|", inner)]


def joined(cells: Sequence[str]) -> str:
    """Cells as a line of a table."""
    return f"| {' | '.join(_line(cell).replace('|', _PIPE) for cell in cells)} |"


def plain(text: str) -> str:
    """A text of which nothing is read as Markdown or as HTML."""
    return re.sub(r"([\\`*_\[\]<>#&~])", r"\\\1", text)


def code(text: str) -> str:
    """A text between backticks, as many as it takes."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence, pad = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def uncoded(cell: str) -> str:
    """What stands between the backticks of a cell; the cell itself where there are none."""
    match = re.fullmatch(r"(`+)( ?)(.*?)\2\1", cell, re.DOTALL)
    return match[3] if match else cell


def said(words: Sequence[str]) -> str:
    """Words of a command line as a cell."""
    text = shlex.join(words)
    for wild, tame in _CONTROL.items():
        text = text.replace(wild, tame)
    return code(text) if words else NONE


def words(cell: str) -> tuple[str, ...]:
    """The words that a cell says. Raises `ValueError` for an open quote."""
    if cell in ("", NONE):
        return ()
    text = uncoded(cell)
    for wild, tame in reversed(_CONTROL.items()):
        text = text.replace(tame, wild)
    return tuple(shlex.split(text))


def _line(cell: str) -> str:
    """A cell on one line; an empty one is marked, so that the table is easy to read."""
    return " ".join(cell.split("\n")).strip() or NONE
