"""PDF: one section for each page, below the bookmark that it belongs to. Needs the extra `pdf`."""

from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.data.documents.section import Block, Document, Section
from sft_runner.errors import MachineError

if TYPE_CHECKING:
    from pypdf import PdfReader


class Unreadable(ValueError):
    """The file is damaged or needs a password."""


def read(path: Path, most_pages: int | None = None) -> Document:
    """The first pages with the text that they hold; pictures of text have none. Raises `Unreadable`, `MachineError`."""
    try:
        from pypdf import PdfReader
    except ImportError:
        raise MachineError(
            f"data.path: {path.name} is a PDF, and pypdf is not installed", 'pip install "sft-runner[pdf]"'
        ) from None
    try:
        reader = PdfReader(path)
        bookmarks = dict(sorted(_bookmarks(reader, reader.outline, ()), key=itemgetter(0)))
        sections: list[Section] = []
        headings: tuple[str, ...] = ()
        for number, page in enumerate(islice(reader.pages, most_pages), 1):
            headings = bookmarks.get(number, headings)
            text = page.extract_text().strip()
            blocks = [Block(part.strip("\n")) for part in text.split("\n\n") if part.strip()]
            sections.append(Section(headings, number, blocks))
        title = reader.metadata.title if reader.metadata else ""
    except Exception as error:  # what pypdf raises for damaged files has no common kind
        raise Unreadable(str(error) or type(error).__name__) from None
    return Document((title or "").strip(), sections, "page")


def _bookmarks(reader: "PdfReader", entries: Any, above: tuple[str, ...]) -> list[tuple[int, tuple[str, ...]]]:
    """Page -> the headings that lead to it; of several that begin on one page the last."""
    found: list[tuple[int, tuple[str, ...]]] = []
    last = above
    for entry in entries:
        if isinstance(entry, list):
            found += _bookmarks(reader, entry, last)
        else:
            last = (*above, str(entry.title).strip())
            page = reader.get_destination_page_number(entry)
            if page is not None:
                found.append((page + 1, last))
    return found
