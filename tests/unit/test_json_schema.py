"""The JSON Schema of recipes and group files takes what the pipeline takes, and refuses what it refuses."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from sft_runner import load
from sft_runner.commands import command
from sft_runner.config.json_schema import RECIPE, schema
from sft_runner.config.schema import Config, flatten
from sft_runner.config.sources import groups
from sft_runner.data.sources import sources_of
from sft_runner.errors import UnknownName, UserError

ROOT = Path(__file__).parents[2]
FILES = [(RECIPE, path) for path in sorted((ROOT / "recipes").rglob("*.yaml"))]
FILES += [(path.parent.name, path) for path in sorted((ROOT / "conf").glob("*/*.yaml"))]
MISTAKES = {
    "a key that does not exist": "train: {learnig_rate: 1.0e-4}",
    "a part that does not exist": "trian: {batch_size: 8}",
    "a key in another part": "data: {batch_size: 8}",
    "a key of peers": "lora: {alpha: 16}",
    "a value for a part": "lora: 8",
    "a part that is a list": "train: [8]",
    "an empty part": "lora:",
    "a text for a whole number": "train: {batch_size: many}",
    "a fraction for a whole number": "train: {max_steps: 1.5}",
    "a truth for a number": "train: {learning_rate: true}",
    "a number that is cut off": "train: {learning_rate: '5e'}",
    "null where nothing can be open": "train: {batch_size: null}",
    "a value below its bound": "train: {batch_size: 0}",
    "a value that is not above its bound": "train: {learning_rate: 0}",
    "a value above its bound": "lora: {lora_dropout: 1.0}",
    "a choice that does not exist": "evaluate: {engine: vlm}",
    "a format that does not exist": "data: {format: alpacca}",
    "a text for a truth": "train: {packing: maybe}",
    "one name for a list": "export: adapter",
    "a list for a text": "data: {path: [a.jsonl, b.jsonl]}",
    "an export that does not exist": "export: [gguff]",
    "a stage that does not exist": "stage: {until: deploy}",
    "a preset's setting": "hardware: {memory_gb: 24}",
    "a group that does not exist": "defaults: [{override /methd: lora}]",
    "defaults that are no list": "defaults: {override /method: lora}",
    "a source without a path": "data: {sources: {mine: {weight: 2}}}",
    "a word that a source does not have": "data: {sources: {mine: {path: mine.jsonl, wieght: 2}}}",
    "a weight of nothing": "data: {sources: {mine: {path: mine.jsonl, weight: 0}}}",
    "a list for a mapping": "train: {extra: [1]}",
    "a text of a value below its bound": "lora: {r: '0'}",
    "a text of nothing": "train: {learning_rate: '0.0'}",
    "infinity": "train: {learning_rate: .inf}",
    "a limit that a gate does not have": "evaluate: {gates: {loss: {mox: 3}}}",
    "a limit that no benchmark has": "evaluate: {gates: {benchmarks: {gsm8k: {exact_match: {mni: 1}}}}}",
    "a weight of what is only scored": "evaluate: {sets: {other: {path: 'embedded:dates', weight: 2}}}",
    "a choice without override": "defaults: [{/model: tiny}]",
    "a parent as a choice": "defaults: [{/recipe: code}]",
    "two choices in one entry": "defaults: [{override /model: tiny, override /method: lora}]",
}
FINE = """\
# goal: everything that is unusual and right
defaults:
  - _self_
  - override /model: tiny
  - override /tracking: [tensorboard, mlflow]
name: 2024
train:
  learning_rate: 5e-3      # text, for YAML 1.1
  batch_size: "8"
  packing: "on"
  num_train_epochs: 1
  max_steps: ${oc.decode:${oc.env:STEPS,4}}
  extra: {neftune_noise_alpha: 5}
lora: {r: null, target_modules: [q_proj, v_proj]}
quantization: {bits: 4}
data:
  max_length: 512
  sources:
    mine: {path: mine.jsonl, weight: 0.5, held_out: all, limit: null}
  chat_template_kwargs: {enable_thinking: false}
evaluate:
  limit: null
  gates:
    loss: {min_gain: 0, sure: true}
    other: {perplexity: {max_ratio: 1.02}}
  sets: {other: {path: "embedded:dates", limit: 4}}
  metrics: [exact_match, chrf]
"""


def found(text: str, group: str = RECIPE) -> list[str]:
    """What an editor would underline."""
    return [error.message for error in Draft7Validator(shipped(group)).iter_errors(yaml.safe_load(text))]


@cache
def shipped(group: str) -> dict[str, Any]:
    """Made once for all tests; no choice of a user's own is forbidden by it."""
    return schema(group)


def planned(*words: str) -> Config:
    """The settings as far as planning comes without data."""
    config = load("hardware=cpu", *words).config
    if config.data.sources:
        sources_of(config.data)
    return config


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    return tmp_path


@pytest.mark.parametrize("group", [*groups(), "local"])
def test_it_is_a_schema(group: str) -> None:
    Draft7Validator.check_schema(schema(group))


@pytest.mark.parametrize(("group", "path"), FILES, ids=lambda value: getattr(value, "stem", value))
def test_every_file_that_is_shipped_is_valid(group: str, path: Path) -> None:
    assert not found(path.read_text(encoding="utf-8"), group)


@pytest.mark.parametrize("text", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_found_here_and_by_the_pipeline(text: str, project: Path) -> None:
    assert found(text)
    (project / "recipes" / "wrong.yaml").write_text(f"{text}\n")
    with pytest.raises(UserError):
        planned("recipe=wrong")


def test_what_is_unusual_and_right_is_taken_by_both(project: Path) -> None:
    assert not found(FINE)
    (project / "recipes" / "fine.yaml").write_text(FINE)
    config = planned("recipe=fine")
    assert not found("evaluate: {gates: {benchmarks: {gsm8k: {exact_match: {min: 0.3}}}, my_metric: {min: 1}}}")
    assert (config.train.learning_rate, config.train.batch_size, config.train.max_steps) == (5e-3, 8, 4)


def test_it_says_what_every_setting_means() -> None:
    whole = schema("local")
    for key, (value, marks) in flatten(Config()).items():
        part: Any = whole
        for name in key.split("."):
            if name not in part["properties"] and marks.get("found"):
                break
            part = part["properties"][name]
            assert part["description"], key
        else:
            assert part["default"] == value, key
            assert not list(Draft7Validator(part).iter_errors(value)), key


def test_a_groups_file_is_its_part_of_the_whole() -> None:
    assert not found("memory_gb: 24", "hardware")
    assert found("memory: 24", "hardware")
    assert not found("lora: {r: 4}\ntrain: {loraplus_lr_ratio: 4}", "method")
    assert not found("# nothing is said", "tracking")
    assert not found("defaults: [rtx3060]\nlora_r: 4", "hardware")
    assert not found("# @package _global_\ndata: {path: my.jsonl}\ntrain: {batch_size: 4}", "data")
    assert found("# @package _global_\ntrain: {batch_sise: 4}", "data")


def test_the_users_own_choices_are_suggested(project: Path) -> None:
    (project / "conf" / "model").mkdir(parents=True)
    (project / "conf" / "model" / "größte.yaml").write_text("name: me/largest\n")
    choice = schema()["properties"]["defaults"]["items"]["anyOf"][0]
    names = choice["properties"]["override /model"]["anyOf"][0]["enum"]
    assert {"größte", "tiny"} <= set(names)
    assert not found("defaults: [{override /model: of_a_colleague}]"), "others are not forbidden"


def test_the_command_prints_it_and_writes_it(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("schema")([]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed) == schema()
    assert command("schema")(["--write", "recipes/recipe.schema.json"]) == 0
    assert (project / "recipes" / "recipe.schema.json").read_text(encoding="utf-8") == printed
    assert command("schema")(["hardware"]) == 0
    assert "memory_gb" in capsys.readouterr().out
    with pytest.raises(UnknownName, match="group 'hardwear' does not exist"):
        command("schema")(["hardwear"])
    (project / "file").write_text("")
    (project / "recipes" / "mine.yaml").write_text("name: mine\n")
    (project / "package.json").write_text('{"title": "mine"}')
    for name in ("file/recipe.schema.json", "recipes/mine.yaml", "package.json"):
        with pytest.raises(UserError, match=f"--write .*{name}"):
            command("schema")(["--write", name])
    assert (project / "recipes" / "mine.yaml").read_text() == "name: mine\n"
    assert (project / "package.json").read_text() == '{"title": "mine"}'
    assert command("schema")(["--write", "recipes/recipe.schema.json"]) == 0, "its own is renewed"


def test_the_one_that_is_checked_in_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = (ROOT / "recipes" / "recipe.schema.json").read_text(encoding="utf-8")
    made = json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"
    assert text == made, "sft-runner schema --write recipes/recipe.schema.json"
