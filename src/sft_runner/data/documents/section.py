"""A document as it is read: its title, and the sections that its headings make."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

SENTENCE_END = re.compile(r"[.!?]\s+|[。！？]")
"""Between two sentences of a paragraph."""


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, a list item, a table or a piece of code, as written."""

    text: str
    """Without blank lines around it."""
    solid: bool = False
    """Code and tables, which are never divided."""
    tight: bool = False
    """Follows the block before it without a blank line."""


@dataclass(slots=True)
class Section:
    """What stands below one heading, without the sections below it."""

    headings: tuple[str, ...]
    """The heading and those above it, the outermost first; empty for what stands before the first one."""
    position: int
    """Line, in a PDF page, counted from 1."""
    blocks: list[Block] = field(default_factory=list)
    """What it says."""

    @property
    def text(self) -> str:
        """The blocks as one text."""
        return joined(self.blocks)


@dataclass(frozen=True, slots=True)
class Document:
    """One file."""

    title: str
    """What the file calls itself; empty where it does not."""
    sections: Sequence[Section]
    """In the order of the file, also those without a text."""
    unit: str = "line"
    """What the positions count: `line` or `page`."""


class Outline:
    """The sections of a document while it is read from top to bottom."""

    def __init__(self) -> None:
        self.sections = [Section((), 1)]
        self._levels: list[int] = []
        self._first_level = 0

    def heading(self, level: int, title: str, position: int) -> None:
        """Open a section; headings of the same or a deeper level end. An empty heading opens none."""
        title = " ".join(title.split())
        if not title:
            return
        self._first_level = self._first_level or level
        above = self.sections[-1].headings
        while self._levels and self._levels[-1] >= level:
            self._levels.pop()
        above = above[: len(self._levels)]
        self._levels.append(level)
        self.sections.append(Section((*above, title), position))

    def add(self, text: str, solid: bool = False, tight: bool = False) -> None:
        """Put a block into the open section; one without a text is nothing."""
        text = text.strip("\n") if solid else text.strip("\n").rstrip()
        if text.strip():
            self.sections[-1].blocks.append(Block(text, solid, tight))

    def document(self, title: str = "") -> Document:
        """What was read. Where the first heading is of the highest level it is the title.

        Nothing before the first heading is no section.
        """
        first, *others = self.sections
        if self._first_level == 1:
            title = others[0].headings[0]
        return Document(title, self.sections if first.blocks or not others else others)


def joined(blocks: Sequence[Block]) -> str:
    """Blocks as one text, apart by a blank line or, where tight, by a new line."""
    parts: list[str] = []
    for block in blocks:
        parts += ([] if not parts else ["\n" if block.tight else "\n\n"]) + [block.text]
    return "".join(parts).strip("\n")


def divided(section: Section, most: int, least: int) -> list[str]:
    """The section's text in parts of at most `most` characters, cut between blocks, in long paragraphs between lines,
    in long lines between sentences, in long sentences between words.

    Only a piece of code or a table that is longer by itself exceeds it; a word that is longer is cut. A last part below
    `least` characters stays with the one before it.
    """
    parts: list[list[Block]] = []
    size = 0
    for block in _pieces(section.blocks, most):
        if not parts or size + len(block.text) > most:
            parts.append([])
            size = 0
        parts[-1].append(block)
        size += len(block.text) + 2
    if len(parts) > 1 and len(joined(parts[-1])) < least:
        parts[-2:] = [[*parts[-2], *parts[-1]]]
    return [joined(part) for part in parts]


def _pieces(blocks: Sequence[Block], most: int) -> Iterator[Block]:
    """The blocks, with lines in the place of paragraphs that are too long, and pieces in the place of such lines."""
    for block in blocks:
        if block.solid or len(block.text) <= most:
            yield block
        else:
            for number, line in enumerate(block.text.split("\n")):
                yield from _pieces_of_line(line, most, tight=block.tight if number == 0 else True)


def _pieces_of_line(line: str, most: int, tight: bool) -> Iterator[Block]:
    """Each as long as its sentences allow, so that a line of three parts' length is in three parts."""
    while len(line) > most:
        sentences = [found.end() for found in SENTENCE_END.finditer(line, 0, most)]
        words = line.rfind(" ", 0, most) + 1
        end = max(sentences, default=words) or most
        if line[:end].strip():
            yield Block(line[:end].rstrip(), tight=tight)
        line, tight = line[end:].lstrip(), True
    if line:
        yield Block(line, tight=tight)
