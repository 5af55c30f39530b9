"""Metrics that cannot be measured are told before anything runs."""

from pathlib import Path

import pytest

from sft_runner import load
from sft_runner.errors import UserError


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluate.metrics=[blue]"], ["evaluate.metrics: metric 'blue' does not exist", "'bleu'"]),
        (["evaluate.metrics=[pattern]"], ["evaluate.metrics: pattern needs evaluate.pattern"]),
        (["evaluate.metrics=[pattern]", r"'evaluate.pattern=(\d'"], ["evaluate.pattern='(\\\\d'", "unterminated"]),
        (["evaluate.headline=bleu"], ["evaluate.headline=bleu is not measured", "evaluate.metrics=[exact_match,bleu]"]),
        (["evaluate.headline=bluu"], ["evaluate.headline: metric 'bluu' does not exist"]),
        (
            ["train.early_stopping.metric=pattern", "train.early_stopping.patience=1"],
            ["train.early_stopping.metric: pattern needs train.early_stopping.pattern"],
        ),
        (["train.early_stopping.metric=rougel"], ["train.early_stopping.metric: metric 'rougel'", "'rougeL'"]),
    ],
)
def test_what_cannot_be_measured(words: list[str], said: list[str]) -> None:
    words = [word.strip("'") for word in words]
    words = [f"{key}='{value}'" if "(" in value else word for word in words for key, _, value in [word.partition("=")]]
    with pytest.raises(UserError) as caught:
        load("recipe=quickstart", *words)
    for text in said:
        assert text in caught.value.show()


def test_what_can_be_measured(tmp_path: Path) -> None:
    run = load("recipe=quickstart", "evaluate.metrics=[loss,bleu,json_equal]", "evaluate.headline=token_accuracy")
    assert run.config.evaluate.headline == "token_accuracy"
    assert load("recipe=quickstart", "evaluate.metrics=[chrf,bleu]").config.evaluate.headline == "chrf"
    assert load("recipe=quickstart", "evaluate.metrics=[]").config.evaluate.headline == "loss"
    without = load("recipe=quickstart", r"evaluate.pattern='x(\d)'")
    assert "evaluate.pattern without effect: evaluate.metrics does not name pattern" in without.warnings


def test_a_watched_pattern_counts_for_training() -> None:
    words = ("recipe=quickstart", "train.early_stopping.metric=pattern", "train.early_stopping.patience=2")
    run = load(*words, r"evaluate.pattern='x(\d)'")
    assert run.config.train.early_stopping.pattern == r"x(\d)"
    assert load("recipe=quickstart", r"evaluate.pattern='x(\d)'").config.train.early_stopping.pattern is None
