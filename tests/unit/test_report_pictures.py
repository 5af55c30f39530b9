"""Bars and ribbons are as large as the numbers that they stand for."""

import math

import pytest

from data_report import report, rows, source
from sft_runner.data.report.flow import MOST_SOURCES, flow
from sft_runner.data.report.histogram import HEIGHT, WIDTH, histogram, line


def test_flow_joins_each_source_with_what_became_of_its_rows() -> None:
    picture = flow(report())
    assert [(node.label, node.rows) for node in picture.sources] == [
        ("alpaca.json", 999),
        ("docs", 1044),
        ("identity.json", 91),
    ]
    assert [(node.label, node.kind, node.rows) for node in picture.fates] == [
        ("to learn from", "train", 1812),
        ("held out", "held_out", 200),
        ("empty answer", "dropped", 2),
        ("duplicate", "dropped", 102),
        ("overlong", "dropped", 18),
    ]
    assert [ribbon.title for ribbon in picture.ribbons][:3] == [
        "alpaca.json: 897 to learn from",
        "alpaca.json: 100 held out",
        "alpaca.json: 2 empty answer",
    ]
    assert len(picture.ribbons) == 3 + 4 + 2


def test_flow_nodes_are_as_high_as_their_rows_and_never_overlap() -> None:
    picture = flow(report())
    high = picture.fates[0].height / picture.fates[0].rows
    assert picture.fates[1].height == pytest.approx(200 * high, rel=0.05)
    for side in (picture.sources, picture.fates):
        for above, below in zip(side, side[1:], strict=False):
            assert above.top + above.height <= below.top
            assert below.top + below.height / 2 - above.top - above.height / 2 >= 18, "labels have room"
        assert side[-1].top + side[-1].height <= picture.height


def test_one_row_among_a_million_is_drawn() -> None:
    picture = flow(report(sources={"a": source("a", "qa", rows(10**6, 0, {"overlong": 1}))}))
    assert picture.fates[1].height >= 1


def test_many_sources_are_drawn_together() -> None:
    sources = {f"s{i}": source(f"s{i}", "qa", rows(i + 1, 0, {})) for i in range(40)}
    picture = flow(report(sources=sources))
    assert len(picture.sources) == MOST_SOURCES
    assert picture.sources[-1].label == "29 others"
    assert sum(node.rows for node in picture.sources) == sum(range(41))
    assert picture.sources[0].label == "s29"


def test_nothing_to_draw() -> None:
    assert flow(report(sources={})).ribbons == []
    assert histogram([], [], 100).bars == []
    assert histogram([0, 1], [0], 8).bars == []
    assert line([]) == ""


def test_histogram_bars_are_proportional() -> None:
    picture = histogram([0, 10, 20, 30, 40], [1, 4, 0, 2], 40)
    assert [bar.height for bar in picture.bars] == [HEIGHT / 4, HEIGHT, HEIGHT / 2]
    assert [bar.x for bar in picture.bars] == [0.5, WIDTH / 4 + 0.5, WIDTH * 3 / 4 + 0.5]
    assert picture.bars[1].title == "10 to 20 tokens: 4 rows"
    assert picture.most == 4
    assert picture.limit == WIDTH


@pytest.mark.parametrize(("max_length", "place"), [(100, WIDTH), (150, WIDTH), (151, None), (50, WIDTH / 2)])
def test_the_limit_is_drawn_where_it_is_near(max_length: int, place: float | None) -> None:
    assert histogram([0, 50, 100], [1, 1], max_length).limit == place


@pytest.mark.parametrize("span", [1, 2, 3, 7, 8, 9, 64, 100, 999, 2048, 8192, 131072, 10**6])
def test_ticks_are_few_and_round(span: int) -> None:
    labels = [float(label.replace(",", "")) for _, label in histogram([0, span], [1], span).ticks]
    assert 2 <= len(labels) <= 9
    assert labels[0] == 0
    assert labels[-1] <= span
    step = labels[1]
    assert step / 10 ** math.floor(math.log10(step)) in (1, 2, 5)


def test_a_line_of_blocks() -> None:
    assert line([0, 1, 4, 8]) == " ▁▄█"
    assert line([1, 1000]) == "▁█"
