"""Headings are what CommonMark calls one, and a section says what its author wrote below it."""

import pytest

from pace import in_loops
from sft_runner.data.documents import markdown
from sft_runner.data.documents.section import divided


def sections(text: str) -> list[tuple[str, int, str]]:
    return [(" > ".join(s.headings), s.position, s.text) for s in markdown.read(text).sections]


def test_a_section_ends_where_the_next_heading_begins() -> None:
    text = "# Guide\nintro\n\n## Install\n\nrun it\n\n### Windows\nclick\n\n## Use\nplay\n"
    assert sections(text) == [
        ("Guide", 1, "intro"),
        ("Guide > Install", 4, "run it"),
        ("Guide > Install > Windows", 8, "click"),
        ("Guide > Use", 11, "play"),
    ]


@pytest.mark.parametrize(
    "inside",
    [
        "```bash\n# Not a heading\n```",
        "~~~~\n~~~\n# Not a heading\n~~~~",
        "````markdown\n```\n# Not a heading\n```\n````",
        "    # Not a heading",
        "<!--\n# Not a heading\n-->",
        "1. do\n\n   ```\n   # Not a heading\n   ```",
        "> # Not a heading",
        "- # Not a heading",
        "\\# Not a heading",
        "#Not a heading",
        "```\n# Not a heading, and the fence is never closed",
    ],
)
def test_what_only_looks_like_a_heading_is_text(inside: str) -> None:
    found = sections(f"# Guide\n\nintro\n\n{inside}\n")
    assert [name for name, _, _ in found] == ["Guide"]
    if "<!--" not in inside:
        assert "Not a heading" in found[0][2]


@pytest.mark.parametrize(
    ("line", "heading"),
    [
        ("## Install ##", "Install"),
        ("Install\n=======", "Install"),
        ("Install\nit\n---", "Install it"),
        ("## 🚀 Run `x --y` **now**", "🚀 Run x --y now"),
        ("## [Install](https://a.b/c)", "Install"),
        ("## ![logo](a.png) Install", "Install"),
        ("## Install {#install .wide}", "Install"),
        ("   ## C# and F\\#", "C# and F#"),
        ("## <a name='x'></a>Install", "Install"),
        ("## Why __init__.py and snake_case", "Why __init__.py and snake_case"),
        ("## List[int] &amp; more", "List[int] & more"),
    ],
)
def test_a_headings_words_come_without_its_markup(line: str, heading: str) -> None:
    assert [name for name, _, _ in sections(f"{line}\n\ntext\n")] == [heading]


def test_levels_that_are_skipped_and_headings_without_words() -> None:
    text = "### Deep\na\n\n# Top\nb\n\n##\nc\n\n#### Far\nd\n\n## Near\ne\n"
    assert [(name, said) for name, _, said in sections(text)] == [
        ("Deep", "a"),
        ("Top", "b\n\nc"),
        ("Top > Far", "d"),
        ("Top > Near", "e"),
    ]


def test_front_matter_gives_the_title_and_keeps_the_line_numbers() -> None:
    document = markdown.read("---\ntitle: The Guide\ntags: [a]\n---\nintro\n\n## Install\ntext\n")
    assert document.title == "The Guide"
    assert [(s.headings, s.position, s.text) for s in document.sections] == [
        ((), 1, "intro"),
        (("Install",), 7, "text"),
    ]


@pytest.mark.parametrize("head", ["---\nonly prose\n---\n", "---\na: [\n---\n", "---\n"])
def test_rules_that_are_no_front_matter_stay(head: str) -> None:
    document = markdown.read(f"{head}\nintro\n")
    assert document.title == ""
    assert "intro" in document.sections[-1].text


def test_a_first_heading_of_the_highest_level_is_the_title() -> None:
    assert markdown.read("---\ntitle: Short\n---\n# The long one\n").title == "The long one"
    assert markdown.read("## Part\n# Guide\n").title == ""


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("See [the guide](a.md) and [this][ref].\n\n[ref]: b.md", "See the guide and this."),
        ("[`code()`](a.md#b_(c))", "`code()`"),
        ("![a picture](a.png)\n\ntext", "text"),
        ("[![badge](a.svg)](b) text", " text"),
        ("text <!-- not said --> here", "text  here"),
        ("`[kept](a.md)` and ``![kept](b.png)``", "`[kept](a.md)` and ``![kept](b.png)``"),
        ("a[0][1] is [not a link][unknown]", "a[0][1] is [not a link][unknown]"),
        ("| a | b |\n|---|---|\n| [x](y) | 2 |", "| a | b |\n|---|---|\n| x | 2 |"),
        ("- one\n- two\n\n  more\n- three", "- one\n- two\n\n  more\n- three"),
        ("1. one\n   ```\n   [kept](a)\n\n\n   b\n   ```", "1. one\n   ```\n   [kept](a)\n\n\n   b\n   ```"),
        ("<div class='grid' markdown>\n\n**text**\n\n</div>", "**text**"),
        ("<details>\n<summary>More</summary>\nhidden words\n</details>", "More\n\nhidden words"),
        ("above\n\n______\n\nbelow", "above\n\nbelow"),
    ],
)
def test_images_go_links_leave_their_words_and_code_stays(written: str, said: str) -> None:
    assert [text for _, _, text in sections(f"# A\n\n{written}\n")] == [said.lstrip("\n")]


def parts(text: str, most: int = 60, least: int = 10) -> list[str]:
    (section,) = markdown.read(text).sections
    return divided(section, most, least)


def test_a_long_section_is_divided_between_paragraphs() -> None:
    paragraphs = [f"Paragraph {number} says a little more." for number in range(4)]
    found = parts("# A\n\n" + "\n\n".join(paragraphs), most=70)
    assert found == ["\n\n".join(paragraphs[:2]), "\n\n".join(paragraphs[2:])]


def test_a_fence_or_a_table_is_never_divided() -> None:
    fence = "```python\n" + "\n\n".join(f"x{number} = {number}" for number in range(20)) + "\n```"
    table = "| a | b |\n|---|---|\n" + "\n".join(f"| {number} | text |" for number in range(20))
    assert parts(f"# A\n\nBefore the code.\n\n{fence}\n\nBetween them.\n\n{table}\n\nBehind the table.") == [
        "Before the code.",
        fence,
        "Between them.",
        table,
        "Behind the table.",
    ]


def test_long_lists_and_paragraphs_are_divided_between_items_and_lines() -> None:
    items = [f"- item number {number}" for number in range(8)]
    lines = [f"This is line number {number}." for number in range(8)]
    for written in (items, lines):
        found = parts("# A\n\n" + "\n".join(written))
        assert "\n".join(found).split("\n") == written
        assert 1 < len(found) < 8
        assert all(len(part) <= 60 for part in found)


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("A sentence of a paragraph on one line. " * 40, 100),
        ("Ein Satz? " * 30 + "Noch einer! " * 30, 100),
        ("这是一个句子。" * 60, 50),
        ("words without an end " * 40, 100),
        ("x" * 1000, 100),
        ("First.\n" + "A long line of the same paragraph. " * 20, 100),
    ],
)
def test_a_paragraph_on_one_line_is_divided_between_sentences(text: str, most: int) -> None:
    found = parts("# A\n\n" + text, most=most, least=1)
    assert max(map(len, found)) <= most
    assert sum(map(len, found)) / len(found) > 0.6 * most
    assert "".join("".join(found).split()) == "".join(text.split())
    if "." in text or "。" in text:
        assert all(part.endswith((".", "。")) for part in found)


def test_a_long_line_of_code_is_not_divided() -> None:
    code = "```\n" + "A. " * 100 + "\n```"
    assert code in parts("# A\n\nText.\n\n" + code)


def test_comments_without_an_end_take_no_time() -> None:
    assert in_loops(lambda: sections("Text.\n\n" + "<!--" * 20_000 + "\n")) < 30
    assert sections("# A\n\nText.\n\n<!-- one -->\n<!-- two --> b") == [("A", 1, "Text.\n\nb")]


def test_a_last_part_that_is_too_short_stays_with_the_one_before_it() -> None:
    assert parts(f"# A\n\n{'word ' * 11}end\n\nshort") == [f"{'word ' * 11}end\n\nshort"]
