"""Markdown: sections by CommonMark's own rules, so that a `#` in a fence or a comment is never a heading."""

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from sft_runner.data.documents import html
from sft_runner.data.documents.section import Document, Outline

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*$", re.DOTALL | re.MULTILINE)
"""YAML between two lines of dashes at the very beginning."""
CODE = re.compile(r"(?<![`~])(`+|~{3,})(?![`~]).*?(?<![`~])\1(?![`~])", re.DOTALL)
"""A code span, or a fence inside a list or a quotation: its text is what it is."""
IMAGE = re.compile(r"!\[[^\[\]]*\](?:\([^()]*(?:\([^()]*\)[^()]*)*\)|\[[^\[\]]*\])|<img\b[^<>]*>", re.IGNORECASE)
LINK = re.compile(r"(?<!\\)\[([^\[\]]*)\]\([^()\n]*(?:\([^()\n]*\)[^()\n]*)*\)")
REFERENCE = re.compile(r"(?<!\\)\[([^\[\]]+)\]\[([^\[\]]*)\]")
COMMENT = re.compile(r"<!--.{0,1000}?-->", re.DOTALL)
"""In a line; bounded, so that the time stays linear where many begin and none ends."""
BLANK_LINES = re.compile(r"\n(?:[ \t]*\n)+")
ATTRIBUTES = re.compile(r"\{:?[ \t]*[#.][^{}]*\}$")
"""An anchor or a class behind a heading: `{#install}`."""


def read(text: str) -> Document:
    """The sections of a Markdown text. A heading inside a list or a quotation is part of their text."""
    title, text = _front_matter(text)
    lines = text.split("\n")
    known: dict[str, Any] = {}
    tokens = _parser().parse(text, known)
    references = known.get("references", {})
    outline = Outline()
    for index, token in enumerate(tokens):
        if token.map is None or token.level > (token.type == "list_item_open"):
            continue
        start, end = token.map
        source = "\n".join(lines[start:end])
        match token.type:
            case "heading_open":
                outline.heading(int(token.tag[1]), _heading(tokens[index + 1]), start + 1)
            case "fence" | "code_block":
                outline.add(source, solid=True)
            case "html_block":
                outline.add(html.words(source))
            case "table_open":
                outline.add(_cleaned(source, references), solid=True)
            case "paragraph_open" | "blockquote_open":
                outline.add(_cleaned(source, references), solid=_holds_fence(source))
            case "list_item_open":  # each a block, so that a long list may be divided between its items
                tight = tokens[index - 1].type == "list_item_close" and bool(lines[start - 1].strip())
                outline.add(_cleaned(source, references), solid=_holds_fence(source), tight=tight)
    return outline.document(title)


@cache
def _parser() -> "MarkdownIt":
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table")


def _front_matter(text: str) -> tuple[str, str]:
    """The title in a YAML head, and the text with blank lines in the head's place, so that line numbers hold."""
    found = FRONT_MATTER.match(text)
    if not found:
        return "", text
    import yaml

    try:
        head = yaml.safe_load(found[1])
    except (yaml.YAMLError, ValueError, RecursionError):
        return "", text
    if head is not None and not isinstance(head, dict):
        return "", text  # prose between two rules
    title = (head or {}).get("title")
    return title.strip() if isinstance(title, str) else "", "\n" * found[0].count("\n") + text[found.end() :]


def _heading(inline: "Token") -> str:
    """A heading's words, without its markup."""
    words = []
    for token in inline.children or []:
        if token.type in ("text", "code_inline"):
            words.append(token.content)
        elif token.type in ("softbreak", "hardbreak"):
            words.append(" ")
        elif token.markup == "__":  # more often `__init__` than something in bold
            words.append(token.markup)
    return ATTRIBUTES.sub("", "".join(words).rstrip())


def _cleaned(source: str, references: dict[str, Any]) -> str:
    """Prose without images and comments, and with the words of links in the links' place; code in it stays."""
    # Code is put aside first, because a link's words may be code, and code may look like a link.
    codes: list[str] = []

    def set_aside(found: re.Match[str]) -> str:
        codes.append(found[0])
        return f"\0{len(codes) - 1}\0"

    text = CODE.sub(set_aside, source)
    text = IMAGE.sub("", COMMENT.sub("", text))
    text = LINK.sub(r"\1", text)
    text = REFERENCE.sub(lambda m: m[1] if (m[2] or m[1]).strip().upper() in references else m[0], text)
    text = BLANK_LINES.sub("\n\n", text)
    return re.sub("\0(\\d+)\0", lambda found: codes[int(found[1])], text)


def _holds_fence(source: str) -> bool:
    """Whether there is code in a list item or a quotation, which must not be divided."""
    return "```" in source or "~~~" in source
