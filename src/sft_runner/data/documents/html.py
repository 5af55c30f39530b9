"""HTML: headings make sections; code, lists and tables come out as Markdown writes them."""

from collections.abc import Container, Iterable
from typing import TYPE_CHECKING

from sft_runner.data.documents.section import Document, Outline

if TYPE_CHECKING:
    from bs4 import BeautifulSoup
    from bs4.element import PageElement, Tag

LEFT_OUT = ("script", "style", "nav", "footer", "template", "noscript", "svg", "button", "iframe", "head", "title")
"""Elements that say nothing about the document's subject."""
HEADINGS = {f"h{level}": level for level in range(1, 7)}
BLOCKS = (
    *("address", "article", "aside", "blockquote", "dd", "details", "div", "dl", "dt", "fieldset", "figcaption"),
    *("figure", "form", "header", "hr", "li", "main", "ol", "p", "pre", "section", "summary", "table", "ul"),
    *HEADINGS,
)
"""Elements that end a paragraph; all others stand inside a line."""


def read(text: str) -> Document:
    """The sections of an HTML page; of one with a `main` part, only those in it."""
    soup = _soup(text)
    title = soup.select_one("title:not(svg title)")
    outline = Outline()
    _walk(soup.main or soup.body or soup, outline)
    return outline.document(" ".join(title.get_text().split()) if title else "")


def words(text: str) -> str:
    """What a piece of HTML says, without its tags."""
    outline = Outline()
    _walk(_soup(text), outline, headings=False)
    return "\n\n".join(section.text for section in outline.sections if section.text)


def _soup(text: str) -> "BeautifulSoup":
    """The page as a tree. Raises `ValueError` for what is none."""
    from bs4 import BeautifulSoup, ParserRejectedMarkup

    ended, end, rest = text.rpartition("-->")
    text = ended + end + rest.replace("<!--", "")  # html.parser looks for the end of each to the end of the text
    try:
        return BeautifulSoup(text, "html.parser")
    except ParserRejectedMarkup as error:
        raise ValueError("not HTML") from error


def _walk(parent: "Tag", outline: Outline, headings: bool = True) -> None:
    """Put what stands below an element into the outline; loose text between blocks is a paragraph of its own."""
    from bs4.element import Tag

    loose: list[PageElement] = []

    def finish() -> None:
        outline.add(_line(loose))
        loose.clear()

    for child in parent.children:
        if not isinstance(child, Tag) or child.name in LEFT_OUT or _inside_a_line(child):
            loose.append(child)
            continue
        finish()
        if child.name in HEADINGS and headings:
            outline.heading(HEADINGS[child.name], _line(child.children).rstrip("¶ "), child.sourceline or 1)
        elif child.name == "pre":
            outline.add(_fenced(child), solid=True)
        elif child.name in ("ul", "ol"):
            for number, item in enumerate(_list(child)):
                outline.add(item, tight=number > 0)
        elif child.name == "table":
            outline.add(_table(child), solid=True)
        else:
            _walk(child, outline, headings)
    finish()


def _inside_a_line(tag: "Tag") -> bool:
    """Whether an element is part of running text; one around whole blocks, such as a link around a card, is not."""
    return tag.name not in BLOCKS and tag.find(BLOCKS) is None


def _line(elements: "Iterable[PageElement]", without: Container[str] = ()) -> str:
    """Running text: white space collapsed, new lines only from `<br>`."""
    lines = (" ".join(line.split()) for line in _inline(elements, without).split("\n"))
    return "\n".join(lines).strip()


def _inline(elements: "Iterable[PageElement]", without: Container[str]) -> str:
    """The words in the white space of the source, code in backticks."""
    from bs4.element import NavigableString, PreformattedString, Tag

    parts: list[str] = []
    for element in elements:
        if isinstance(element, PreformattedString):  # a comment, a doctype
            continue
        if isinstance(element, NavigableString):
            parts.append(element.replace("\n", " "))
        elif not isinstance(element, Tag) or element.name in LEFT_OUT or element.name in without:
            continue
        elif element.name == "br":
            parts.append("\n")
        elif element.name in ("code", "kbd", "samp") and "`" not in element.get_text():
            code = " ".join(element.get_text().split())
            parts.append(f"`{code}`" if code else "")
        else:
            text = _inline(element.children, without)
            parts.append(f" {text} " if element.name in BLOCKS else text)
    return "".join(parts)


def _fenced(pre: "Tag") -> str:
    """Code in a fence that is longer than any in it, with the language that its class names."""
    code = pre.find("code")
    names = [name for tag in (code, pre) if tag for name in tag.get_attribute_list("class") if name]
    language = next((n.split("-", 1)[1] for n in names if n.startswith(("language-", "lang-"))), "")
    text = pre.get_text().strip("\n")
    fence = "````" if "```" in text else "```"
    return f"{fence}{language}\n{text}\n{fence}" if text.strip() else ""


def _list(tag: "Tag", indent: str = "") -> list[str]:
    """One text for each item, with the lists below it."""
    items = []
    for number, item in enumerate(tag.find_all("li", recursive=False), 1):
        mark = f"{number}. " if tag.name == "ol" else "- "
        inner = indent + " " * len(mark)
        below = [child for child in item.find_all(["ul", "ol", "pre"]) if child.find_parent("li") is item]
        text = _line(item.children, without=("ul", "ol", "pre"))
        lines = [indent + mark + text.replace("\n", "\n" + inner)]
        for child in below:
            lines += (
                _list(child, inner) if child.name != "pre" else [inner + _fenced(child).replace("\n", "\n" + inner)]
            )
        items.append("\n".join(lines))
    return items


def _table(tag: "Tag") -> str:
    """A table as Markdown writes it; its first row is the head."""
    rows = [
        [_line(cell.children).replace("\n", " ").replace("|", "\\|") for cell in row.find_all(["th", "td"])]
        for row in tag.find_all("tr")
        if row.find_parent("table") is tag
    ]
    rows = [row for row in rows if any(row)]
    if not rows:
        return ""
    width = max(map(len, rows))
    lines = ["| " + " | ".join(row + [""] * (width - len(row))) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])
