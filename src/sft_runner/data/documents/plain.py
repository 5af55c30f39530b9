"""Plain text and reStructuredText: underlined lines are headings, blank lines part paragraphs."""

import re
from collections.abc import Sequence

from sft_runner.data.documents.section import Document, Outline

UNDERLINE = re.compile(r"([=\-~^\"'`#*+:.<>_])\1{2,}\s*$")
"""Three or more of one mark."""
LEAST_UNDERLINED = 0.8
"""Share of the words that the marks reach below: some writers count wide characters twice, some miscount."""

Kind = tuple[str, bool]
"""The mark of a heading, and whether it stands above the words too."""


def read(text: str) -> Document:
    """The sections of a text. The first kind of heading is the highest level, as reStructuredText has it."""
    lines = text.split("\n")
    outline = Outline()
    kinds: list[Kind] = []
    index = 0
    while index < len(lines):
        kind = _heading(lines[index : index + 3])
        if kind:
            if kind not in kinds:
                kinds.append(kind)
            overlined = kind[1]
            outline.heading(kinds.index(kind) + 1, lines[index + overlined], index + 1)
            index += 2 + overlined
        else:
            end = next((i for i in range(index, len(lines)) if not lines[i].strip()), len(lines))
            _add(outline, "\n".join(lines[index:end]))
            index = end + 1
    return outline.document()


def _heading(lines: Sequence[str]) -> Kind | None:
    """The kind of the heading that the first two or three of the lines are, if they are one."""
    if len(lines) == 3 and UNDERLINE.match(lines[0]) and lines[0].rstrip() == lines[2].rstrip():
        kind = _heading(lines[1:])
        return kind and (kind[0], True)
    if len(lines) < 2 or not lines[0].strip() or UNDERLINE.match(lines[0]):
        return None
    reached = len(lines[1].rstrip()) >= LEAST_UNDERLINED * len(lines[0].strip())
    return (lines[1][0], False) if reached and UNDERLINE.match(lines[1]) else None


def _add(outline: Outline, paragraph: str) -> None:
    """Put a paragraph into the outline. An indented one, code or a directive's body, belongs to the one before it."""
    body = outline.sections[-1].blocks
    if paragraph[:1] in (" ", "\t") and body:
        before = body.pop()
        outline.add(f"{before.text}\n\n{paragraph}", solid=True, tight=before.tight)
    else:
        outline.add(paragraph)
