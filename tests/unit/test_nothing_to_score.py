"""A plan that scores a model needs rows to score it on."""

from typing import Any

import pytest

from sft_runner import load, plan
from sft_runner.errors import UserError

WORDS = ("recipe=quickstart", "hardware=cpu", "tracking=none")


def sources(**shares: Any) -> str:
    entries = (f"{name}: {{path: {name}.jsonl, held_out: {share}}}" for name, share in shares.items())
    return f"data.sources={{{', '.join(entries)}}}"


@pytest.fixture(autouse=True)
def rows(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "".join(f'{{"question": "What is {i}?", "answer": "{i}"}}\n' for i in range(20))
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(text)


@pytest.mark.parametrize("stage", ["baseline", "evaluate", "serve"])
def test_it_is_told_before_anything_runs(stage: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(load(*WORDS, f"stage.until={stage}", "data.held_out=0"))
    assert caught.value.message.startswith("data.held_out is 0: no row is kept away from training")
    assert "stage=merge" in caught.value.hint


@pytest.mark.parametrize("stage", ["prepare", "train", "merge"])
def test_where_nothing_is_scored_it_is_as_wished(stage: str) -> None:
    plan(load(*WORDS, f"stage.until={stage}", "data.held_out=0"))


@pytest.mark.parametrize(
    ("shares", "shared", "scored"),
    [
        ({"a": 0, "b": 0}, 0.1, False),
        ({"a": 0, "b": "null"}, 0.1, True),
        ({"a": 0, "b": 2}, 0, True),
        ({"a": 0, "b": "all"}, 0, True),
        ({"a": 0, "b": "null"}, 0, False),
    ],
)
def test_each_sources_own_share_counts(shares: dict[str, Any], shared: float, scored: bool) -> None:
    asked = load(*WORDS, "data.path=null", "data.format=qa", sources(**shares), f"data.held_out={shared}")
    if scored:
        plan(asked)
        return
    with pytest.raises(UserError, match=r"held_out is 0"):
        plan(asked)
