"""Text with everything visible that a reader would not see, and with nothing in it that a terminal would obey."""

import re
from collections.abc import Iterator, Sequence

_INVISIBLE = (
    r"[\x00-\x08\x0b-\x1f\x7f-\xa0\xad\u1680\u2000-\u200b\u200e\u200f\u2028-\u202f"
    r"\u205f-\u2064\u2066-\u2069\ud800-\udfff\ufeff]"
)
"""Control characters, spaces that are no plain space, marks of writing direction, halves of surrogates.

Joiners inside emoji and Persian words, and the wide space of Chinese, are part of ordinary text and stay.
"""
_MARKED = rf"(?P<line>\r?\n)|(?P<tab>\t)|(?P<spaces> {{2,}}|\A | (?=\r?\n|\Z))|(?P<other>{_INVISIBLE})"


def parts(text: str, special: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Pieces of the text in order, each with its kind: `text`, `special` for a special token, or `mark`.

    A mark stands for what cannot be seen: `↵` (a line break follows it as text), `⇥`, `·`, `⟨U+200B⟩`.
    """
    tokens = "|".join(map(re.escape, sorted(filter(None, special), key=len, reverse=True)))
    pattern = re.compile(f"(?P<special>{tokens})|{_MARKED}" if tokens else _MARKED)
    end = 0
    for match in pattern.finditer(text):
        if match.start() > end:
            yield text[end : match.start()], "text"
        found, end = match.group(), match.end()
        if match.lastgroup == "special":
            yield found, "special"
        elif match.lastgroup == "line":
            yield "␍↵" if found[0] == "\r" else "↵", "mark"
            yield "\n", "text"
        elif match.lastgroup == "tab":
            yield "⇥", "mark"
        elif match.lastgroup == "spaces":
            yield "·" * len(found), "mark"
        else:
            yield f"⟨U+{ord(found):04X}⟩", "mark"
    if end < len(text):
        yield text[end:], "text"


def harmless(text: str) -> str:
    """A name as one line in which nothing is obeyed."""
    return "".join(part for part, _ in parts(text)).replace("\n", "")


def cut(text: str, most: int) -> str:
    """The text, or where it has more than `most` characters its beginning and end with a note between them."""
    if len(text) <= most:
        return text
    head, tail = most * 2 // 3, most // 3
    return f"{text[:head]}…⟨{len(text) - head - tail:,} characters⟩…{text[-tail:]}"
