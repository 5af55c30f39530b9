"""Texts: an underlined line is a heading where it can be one."""

from sft_runner.data.documents import plain

TEXT = """\
=====
Guide
=====

Some words
of an introduction.

Install
-------

Run this::

    Not a heading
    -------------

    more

Then go on.

Windows
~~~~~~~
Click.

+-----+-----+
| a   | b   |
+-----+-----+

Use
---
Play.
"""


def test_underlines_make_levels_in_the_order_in_which_they_appear() -> None:
    document = plain.read(TEXT)
    assert document.title == "Guide"
    assert [(" > ".join(s.headings), s.position, s.text) for s in document.sections] == [
        ("Guide", 1, "Some words\nof an introduction."),
        (
            "Guide > Install",
            8,
            "Run this::\n\n    Not a heading\n    -------------\n\n    more\n\nThen go on.",
        ),
        ("Guide > Install > Windows", 20, "Click.\n\n+-----+-----+\n| a   | b   |\n+-----+-----+"),
        ("Guide > Use", 28, "Play."),
    ]


def test_a_text_without_headings_is_one_section() -> None:
    document = plain.read("one\n\ntwo -----\n---\n")
    assert document.title == ""
    assert [(s.headings, s.text) for s in document.sections] == [((), "one\n\ntwo -----\n---")]
