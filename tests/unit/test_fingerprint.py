"""What counts and what does not, and fingerprints that stay the same from version to version."""

from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from sft_runner.config.rules import fill
from sft_runner.config.schema import Config, flatten
from sft_runner.fingerprint import Hashes, Ingredients, gather, read_by
from sft_runner.stages import STAGES

UNCOUNTED_BY_NATURE = {"model.name", "model.revision"}
"""The model counts by its files, not by its name."""


def changed(config: Config, key: str) -> Config:
    """The configuration with another value for one key."""
    value, marks = flatten(config)[key]
    others: dict[type, Any] = {bool: True, int: 7, float: 0.7, str: "other", list: ["other"], dict: {"other": 1}}
    if isinstance(value, bool):
        new: Any = not value
    elif value is None:
        new = 7
    elif "choices" in marks:
        new = next(choice for choice in marks["choices"] if choice != value)
    else:
        new = others[type(value)]

    def put(part: Any, names: list[str]) -> Any:
        inner = getattr(part, names[0])
        return replace(part, **{names[0]: put(inner, names[1:]) if is_dataclass(inner) else new})

    result = put(config, key.split("."))
    assert isinstance(result, Config)
    return result


def slices(config: Config) -> dict[str, dict[str, Any]]:
    return {name: read_by(stage, config) for name, stage in STAGES.items()}


@pytest.mark.parametrize("key", sorted(flatten(Config())))
def test_a_setting_counts_unless_it_is_marked(key: str) -> None:
    counts = flatten(Config())[key][1].get("counts", True) and key not in UNCOUNTED_BY_NATURE
    assert (slices(changed(Config(), key)) != slices(Config())) is counts


def test_a_setting_at_its_neutral_value_is_left_out() -> None:
    assert "data.limit" not in read_by(STAGES["prepare"], Config())
    assert read_by(STAGES["prepare"], changed(Config(), "data.limit"))["data.limit"] == 7


def test_a_sweep_over_the_adapter_shares_prepare_and_baseline() -> None:
    other = slices(changed(Config(), "lora.r"))
    assert other["prepare"] == slices(Config())["prepare"]
    assert other["baseline"] == slices(Config())["baseline"]
    assert other["train"] != slices(Config())["train"]


def test_the_longest_answer_counts_for_training_where_answers_are_watched() -> None:
    def asked(metric: str, tokens: int) -> dict[str, Any]:
        config = changed(Config(), "train.early_stopping.metric")
        config.train.early_stopping.metric, config.evaluate.max_new_tokens = metric, tokens
        return read_by(STAGES["train"], fill(config, "run", None)[0])

    assert asked("loss", 16) == asked("loss", 256)
    assert asked("exact_match", 16) != asked("exact_match", 256)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"metrics": ["exact_match", "chrf"]}, {"metrics": ["chrf", "exact_match"]}),
        ({"metrics": ["chrf"]}, {"metrics": ["chrf", "chrf", "loss", "perplexity"]}),
        ({}, {"pattern": "x"}),
        ({"metrics": []}, {"metrics": [], "max_new_tokens": 7}),
        ({"metrics": []}, {"metrics": ["loss"], "engine": "vllm"}),
        ({}, {"benchmarks_limit": 7}),
        ({"sets": {"a": {"path": "x"}}}, {"sets": {"a": {"path": "y", "limit": 200}}}),
        ({}, {"headline": "loss"}),
    ],
)
def test_what_changes_no_score_measures_nothing_again(
    one: dict[str, Any], other: dict[str, Any], tmp_path: Path
) -> None:
    assert measured(one, tmp_path) == measured(other, tmp_path)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"metrics": ["exact_match"]}, {"metrics": ["chrf"]}),
        ({"metrics": ["pattern"], "pattern": "x"}, {"metrics": ["pattern"], "pattern": "y"}),
        ({"metrics": ["chrf"]}, {"metrics": ["chrf"], "max_new_tokens": 7}),
        ({"metrics": ["chrf"]}, {"metrics": ["chrf"], "engine": "vllm"}),
        ({"benchmarks": ["gsm8k"]}, {"benchmarks": ["gsm8k"], "benchmarks_limit": 7}),
        ({"sets": {"a": {"path": "x"}}}, {"sets": {"a": {"path": "x", "limit": None}}}),
        ({"sets": {"a": {"path": "x"}}}, {"sets": {"b": {"path": "x"}}}),
    ],
)
def test_what_changes_a_score_measures_again(one: dict[str, Any], other: dict[str, Any], tmp_path: Path) -> None:
    assert measured(one, tmp_path) != measured(other, tmp_path)


def measured(values: dict[str, Any], folder: Path) -> str:
    """The fingerprint of the baseline, with these values in `evaluate`."""
    config = Config()
    config.evaluate = replace(config.evaluate, **{"engine": "transformers", **values})
    config.model.name = "embedded:tiny"
    return gather(STAGES["baseline"], config, {"prepare": ""}, {"sets": ""}, Hashes(folder / "memory")).fingerprint()


def test_golden_fingerprint() -> None:
    """If this changes, every cache of every user is void: raise a stage's version instead."""
    ingredients = Ingredients("train", 1, {"lora.r": 8, "train.learning_rate": 2e-4}, {"prepare": "ab"}, "cd", "")
    assert ingredients.fingerprint() == "b916026372d550f2"


GOLDEN_SLICES = {
    "prepare": "eefb0c81b94ce5ac",
    "baseline": "4237f26671dac5d5",
    "train": "0ca3e4872e8978f9",
    "merge": "a7ffb81e4468f25e",
    "evaluate": "f1dfb3a66e5adb1b",
    "export": "8431f1f31df2f938",
    "serve": "dd28352539a8f3ed",
}


def test_golden_slices() -> None:
    """The settings that each stage reads at their defaults; a new setting needs a neutral value."""
    found = {
        name: Ingredients(name, 1, read_by(stage, Config()), {}, "", "").fingerprint() for name, stage in STAGES.items()
    }
    assert found == GOLDEN_SLICES


def test_hashes_follow_the_bytes(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_text("a")
    memory = tmp_path / "memory.json"
    first = Hashes(memory).of(file)
    file.write_text("b")  # the same size, within the same tick of the clock
    assert Hashes(memory).of(file) != first


def test_hashes_are_remembered(tmp_path: Path) -> None:
    import os
    import time

    file, memory = tmp_path / "data", tmp_path / "memory.json"
    file.write_text("a")
    os.utime(file, (time.time() - 100, time.time() - 100))
    hashes = Hashes(memory)
    digest = hashes.of(file)
    hashes.save()
    assert Hashes(memory).known[str(file)][-1] == digest
    assert not Hashes(memory).changed


@pytest.mark.parametrize("text", ["", "{", "[]", '{"x": 3}'])
def test_a_damaged_memory_is_a_miss(tmp_path: Path, text: str) -> None:
    (tmp_path / "memory.json").write_text(text)
    (tmp_path / "x").write_text("a")
    assert len(Hashes(tmp_path / "memory.json").of(tmp_path / "x")) == 64


def test_several_files_count_by_relative_name_and_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in "ab":
            (tmp_path / folder / name).write_text(name)
    hashes = Hashes(tmp_path / "memory.json")
    one = hashes.together(sorted((tmp_path / "one").iterdir()))
    assert hashes.together(sorted((tmp_path / "two").iterdir())) == one
    (tmp_path / "two" / "b").rename(tmp_path / "two" / "c")
    assert hashes.together(sorted((tmp_path / "two").iterdir())) != one
