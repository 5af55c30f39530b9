"""The page says what the report says, adds up, is whole by itself, and nothing from the data runs in it."""

import re
from typing import Any

import pytest

from data_report import report, rows, source
from html_pages import Checked, said
from sft_runner.data.report.page import page

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}"


def test_the_sum_is_shown_with_its_signs() -> None:
    assert "2,127 read + 7 added = 1,812 to learn from + 200 held out + 122 dropped" in said(page(report()))


def test_each_source_has_a_line_that_adds_up() -> None:
    text = said(page(report()))
    assert "alpaca.json alpaca 997 1 999 0 897 100 2" in text
    assert "docs docs 924 1 1,037 7 833 91 120" in text
    assert "all 2,127 7 1,812 200 122" in text
    assert "besides: 1 blank lines" in text


def test_warnings_stand_on_top_with_places_and_what_to_do() -> None:
    text = said(page(report()))
    warning = text.index("placeholder, 86 rows: a placeholder is left in")
    assert warning < text.index("Where the rows went")
    assert "such as identity.json:1" in text
    assert "data.suspect=drop" in text
    assert "small, 1 row: few rows are held out" in text


def test_dropped_rows_are_explained_largest_first() -> None:
    text = said(page(report()))
    assert text.index("duplicate 102 the same row") < text.index("overlong 18 more tokens than data.max_length")
    assert "empty answer 2 an answer says nothing" in text
    assert "alpaca.json:7" in text


def test_numbers_stand_beside_the_pictures() -> None:
    text = said(page(report()))
    for part in (
        "tokens that carry loss: 48.8 % 48.8 %",
        "a step filled, packed: 99.9 % 99.9 %",
        "a step filled, padded: 41.2 %",
        "Steps of 16 rows, drawn at random",
        "unseen: 30.5 % 61",
        "0 to 500 900 1,812",
        "1,500 to 2,000 212 0",
        "data.max_length=2048",
        "1,823,456 characters, 906.3 a row",
    ):
        assert part in text


def test_trained_and_special_tokens_are_told_apart() -> None:
    html = page(report())
    assert "<mark><i>··</i>yes<b>&lt;|im_end|&gt;</b></mark></pre>" in html
    assert '<pre class="row" tabindex="0"><b>&lt;|im_start|&gt;</b>user<i>↵</i>\nhi' in html


def test_the_page_is_whole_by_itself() -> None:
    checked = Checked(page(report()))
    assert not {"script", "link", "iframe", "img", "object", "form", "a"} & set(checked.tags)
    assert not [name for name, _ in checked.attributes if name in ("src", "href") or name.startswith("on")]
    assert "url(" not in page(report())
    assert ("lang", "en") in checked.attributes


def test_every_picture_has_a_name() -> None:
    html = page(report())
    pictures = re.findall(r"<svg [^>]*>", html)
    assert len(pictures) == 9
    assert all('role="img"' in picture and "aria-label=" in picture for picture in pictures)


def test_nothing_from_the_data_becomes_part_of_the_page() -> None:
    evil = source(EVIL, EVIL, rows(1, 0, {EVIL: 1}), **{EVIL: 3})
    html = page(
        report(
            sources={EVIL: evil},
            rows=rows(1, 0, {EVIL: 1}),
            warnings=[{"kind": EVIL, "count": 1, "text": EVIL, "examples": [EVIL]}],
            dropped_examples={EVIL: [EVIL]},
            samples=[{"source": EVIL, "tokens": 1, "trained": 1, "spans": [[EVIL, True]], "special": [EVIL]}],
            template={"name": EVIL, "kwargs": {EVIL: EVIL}, "train_on": EVIL, "reasoning": EVIL},
        )
    )
    checked = Checked(html)
    assert not {"script", "img"} & set(checked.tags)
    assert not [name for name, _ in checked.attributes if name.startswith("on")]
    assert "{{7*7}}" in html
    assert "49" not in said(html).split()


def nothing() -> dict[str, Any]:
    """A report without anything that may be missing."""
    tokens = {"train": 0, "trained": 0, "share_trained": 0.0, "longest": 0, "mean": 0.0, "held_out": 0}
    return report(
        sources={"a": source("a", "qa", rows(0, 0, {}))},
        rows=rows(0, 0, {}),
        tokens=tokens | {"histogram": {"edges": [0, 1], "train": [0], "trained": [0]}},
        packing=None,
        warnings=[],
        samples=[],
        dropped_examples={},
        kinds={},
    )


def test_what_is_not_there_leaves_no_gap() -> None:
    html = page(nothing())
    Checked(html)
    text = said(html)
    assert "0 read = 0 to learn from + 0 held out + 0 dropped" in text
    for part in ("Why rows were dropped", "What is held out", "packed", "Real rows", "The numbers of these pictures"):
        assert part not in text


@pytest.mark.parametrize("name", ["items", "values", "rows", "", "0"])
def test_sources_may_have_any_name(name: str) -> None:
    assert "897" in page(report(sources={name: source(name, "alpaca", rows(897, 100, {}))}))


def test_samples_of_older_reports_have_no_special_tokens() -> None:
    sample = {"source": "a:1", "tokens": 1, "trained": 1, "spans": [["</s>", True]]}
    assert "<mark>&lt;/s&gt;</mark>" in page(report(samples=[sample]))
