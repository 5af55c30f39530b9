"""What can be said under `data.sources`, and what is told of it."""

import math
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from sft_runner.config.schema import Data
from sft_runner.data.files import check, read
from sft_runner.data.sources import Source, sources_of
from sft_runner.data.sources.source import KINDS
from sft_runner.errors import UserError


def refused(**settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        sources_of(Data(**settings))
    return caught.value.show()


def test_a_path_is_one_source_with_the_settings_of_data() -> None:
    (source,) = sources_of(Data(path="some/rows.jsonl", format="qa", columns={"question": "q"}, limit=3))
    assert source == Source("rows.jsonl", "some/rows.jsonl", "qa", {"question": "q"}, 3)
    (source,) = sources_of(Data(path="embedded:dates"))
    assert source.name == "embedded:dates"


def test_sources_have_settings_of_their_own_and_share_the_others() -> None:
    own = {"path": "a.csv", "format": "qa", "columns": {"question": "q"}, "limit": 5, "cap": 4, "weight": 0.5}
    sources = {"second": {"path": "b.jsonl", "held_out": "all", "cap": None}, "first": {**own, "held_out": 0.2}}
    first, second = sources_of(Data(sources=sources, format="alpaca", columns={"output": "o"}, limit=9))
    assert first == Source("first", "a.csv", "qa", {"question": "q"}, 5, 4, 0.5, 0.2, "data.sources.first")
    assert second == Source(
        "second", "b.jsonl", "alpaca", {"output": "o"}, 9, held_out=math.inf, key="data.sources.second"
    )


def test_the_order_in_which_sources_are_written_says_nothing() -> None:
    a, b = {"path": "a.jsonl"}, {"path": "b.jsonl"}
    assert sources_of(Data(sources={"a": a, "b": b})) == sources_of(Data(sources={"b": b, "a": a}))


def test_every_setting_of_a_source_has_a_kind() -> None:
    assert {*KINDS} == {item.name for item in fields(Source)} - {"name", "key"}


def test_exactly_one_of_path_and_sources_is_set() -> None:
    assert refused().startswith("data.path: not set\n")
    assert "data.path: set beside data.sources" in refused(path="a.jsonl", sources={"a": {"path": "a.jsonl"}})


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("a.jsonl", "data.sources.mine: 'a.jsonl' is no mapping\n  write mine: {path: my.jsonl}"),
        ({}, "data.sources.mine.path: not set"),
        ({"path": 3}, "data.sources.mine.path: 3 is not a path"),
        (
            {"path": "a", "wieght": 2},
            "'data.sources.mine.wieght' does not exist\n  did you mean 'data.sources.mine.weight'",
        ),
        ({"path": "a", "format": "alpacca"}, "data.sources.mine.format: 'alpacca' is not auto or the name of a format"),
        ({"path": "a", "format": "alpacca"}, "did you mean 'alpaca'?"),
        ({"path": "a", "columns": "q"}, "data.sources.mine.columns: 'q' is not a mapping"),
        ({"path": "a", "limit": 0}, "data.sources.mine.limit: 0 is not a whole number from 1 on"),
        ({"path": "a", "cap": 2.5}, "data.sources.mine.cap: 2.5 is not a whole number"),
        ({"path": "a", "cap": True}, "data.sources.mine.cap: True is not a whole number"),
        ({"path": "a", "weight": 0}, "data.sources.mine.weight: 0 is not a number above 0"),
        ({"path": "a", "weight": "2"}, "data.sources.mine.weight: '2' is not a number above 0"),
        ({"path": "a", "weight": math.inf}, "data.sources.mine.weight: inf is not a number above 0"),
        ({"path": "a", "held_out": 1.5}, "data.sources.mine.held_out: 1.5 is not a share below 1"),
        ({"path": "a", "held_out": math.inf}, "data.sources.mine.held_out: inf is not a share below 1"),
        ({"path": "a", "held_out": "some"}, "data.sources.mine.held_out: 'some' is not a share below 1"),
    ],
    ids=range(16),
)
def test_a_mistake_is_told_with_its_key(entry: Any, told: str) -> None:
    assert told in refused(sources={"mine": entry})


def test_all_mistakes_are_told_at_once() -> None:
    said = refused(sources={"a": {"limit": 0}, "b": {"path": "b", "cap": 0}})
    assert all(f"data.sources.{key}" in said for key in ("a.path", "a.limit", "b.cap"))


def test_errors_in_rows_and_places_name_the_source(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"question": "q", "answer": 3}\n')
    (tmp_path / "worse.jsonl").write_text("what?\n")
    sources = {name: {"path": str(tmp_path / f"{name}.jsonl")} for name in ("bad", "worse")}
    data = Data(sources=sources)
    with pytest.raises(UserError) as caught:
        check(data)
    assert "data.sources.bad: bad.jsonl, line 1: answer is" in caught.value.show()
    assert "data.sources.worse: worse.jsonl, line 1: not JSON" in caught.value.show()
    with pytest.raises(UserError, match=r"data\.sources\.worse: worse\.jsonl, line 1: not JSON"):
        list(read(sources_of(data)[1], data, Counter()))
    with pytest.raises(UserError, match=r"data\.sources\.none: there is no file or folder"):
        check(Data(sources={"none": {"path": str(tmp_path / "none.jsonl")}}))
