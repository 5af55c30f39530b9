"""`sft-runner explain` and `sft-runner show`: where values come from."""

import json
from pathlib import Path

import pytest
import yaml

from command import sft
from sft_runner import load
from sft_runner.commands.explain import main as explain
from sft_runner.commands.show import main as show
from sft_runner.config import sources, values
from sft_runner.config.schema import flatten
from sft_runner.errors import UserError
from sft_runner.review.explain.screen import OTHERS


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sources.forget()
    Path("recipes").mkdir()
    Path("recipes/größe 2.yaml").write_text(
        "# goal: a try\nname: mine\ndefaults:\n  - override /method: dora\n"
        "lora:\n  r: 4\ntrain: {learning_rate: 3e-4}\n"
        "evaluate:\n  gates:\n    loss: {min_gain: 0}\n"
    )


RECIPE = "recipe='größe 2'"


def _told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert explain(list(words)) == 0
    return capsys.readouterr().out


def test_a_value_with_all_its_layers(capsys: pytest.CaptureFixture[str]) -> None:
    told = _told(capsys, "lora.r", RECIPE, "hardware=cpu", "lora.r=16").splitlines()
    assert told[0] == "lora.r = 16"
    layers = [line.split() for line in told[3:6]]
    assert layers[0] == ["16", "command", "line"]
    assert layers[1] == ["4", "recipe=größe", "2", "recipes/größe", "2.yaml:6"]
    assert layers[2][:2] == ["null", "default"]
    assert "  possible: at least 1" in told
    assert "  counts:   in the fingerprint of train, and so of what comes behind" in told


def test_a_value_that_was_filled_in(capsys: pytest.CaptureFixture[str]) -> None:
    told = _told(capsys, "lora.lora_alpha", RECIPE, "hardware=cpu")
    assert told.startswith("lora.lora_alpha = 8.0\n")
    assert "  8.0  filled in: 2 * lora.r\n" in told


def test_what_other_files_say(capsys: pytest.CaptureFixture[str]) -> None:
    told = _told(capsys, "lora.r", "hardware=cpu")
    assert "otherwise in:\n  4  recipe=größe 2  recipes/größe 2.yaml:6\n" in told
    said = [line for line in _told(capsys, "model.name", "hardware=cpu").splitlines() if "model=" in line]
    assert len(said) == 1 + OTHERS
    files = len(sources.options("model"))
    assert f"  and {files - 1 - OTHERS} more\n" in _told(capsys, "model.name", "hardware=cpu")


def test_why_a_value_does_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert "in no fingerprint" in _told(capsys, "output_dir", "hardware=cpu")
    assert "left out of fingerprints while it is False" in _told(capsys, "lora.use_dora", "hardware=cpu")
    assert "in the fingerprint of train" in _told(capsys, "lora.use_dora", RECIPE, "hardware=cpu")
    assert "the model counts by its files" in _told(capsys, "model.name", "hardware=cpu")
    assert "nothing uses it" in _told(capsys, "evaluate.pattern", "hardware=cpu", "evaluate.pattern=x")


def test_a_group_with_its_choices(capsys: pytest.CaptureFixture[str]) -> None:
    told = _told(capsys, "method", RECIPE, "hardware=cpu")
    assert told.startswith("method=dora\n  recipe=größe 2  recipes/größe 2.yaml:4\n")
    assert "  * dora" in told
    assert "    qlora" in told
    told = _told(capsys, "hardware", "hardware=t4")
    assert told.startswith("hardware=t4\n  command line\n")
    assert "hardware.memory_gb = 16.1" in told
    assert "took cpu: " in _told(capsys, "hardware", "hardware=auto")
    assert "größe 2     " in _told(capsys, "recipe", "hardware=cpu")
    assert _told(capsys, "tracking", "hardware=cpu", "tracking=[mlflow,wandb]").startswith("tracking=mlflow, wandb\n")


def test_a_part(capsys: pytest.CaptureFixture[str]) -> None:
    told = _told(capsys, "lora", RECIPE, "hardware=cpu")
    for text in ("lora.r = 4 ", "filled in: 2 * lora.r", "    Rank;"):
        assert text in told


def test_a_free_name(capsys: pytest.CaptureFixture[str]) -> None:
    told = _told(capsys, "evaluate.gates.loss.min_gain", RECIPE, "hardware=cpu")
    assert told.startswith("evaluate.gates.loss.min_gain = 0\n")
    assert "recipes/größe 2.yaml:10" in told
    with pytest.raises(UserError, match="nothing is said of 'evaluate.gates.f1'"):
        explain(["evaluate.gates.f1", RECIPE, "hardware=cpu"])


def test_a_name_that_was_taken_out(capsys: pytest.CaptureFixture[str]) -> None:
    Path("recipes/r.yaml").write_text("evaluate: {gates: {loss: {min_gain: 0, max: 3}}}\n")
    words = ["recipe=r", "hardware=cpu", "~evaluate.gates.loss.max"]
    told = _told(capsys, "evaluate.gates.loss.max", *words).splitlines()
    assert told[0] == "evaluate.gates.loss.max is taken out"
    assert [line.split() for line in told[3:5]] == [
        ["without", "evaluate.gates.loss.max", "command", "line"],
        ["3", "recipe=r", "recipes/r.yaml:1"],
    ]
    whole = _told(capsys, "evaluate.gates", *words).splitlines()
    assert whole[3].split() == ["without", "evaluate.gates.loss.max", "command", "line"]
    told = _told(capsys, "evaluate.gates.loss.min_gain", *words)
    assert "without" not in told
    assert told.startswith("evaluate.gates.loss.min_gain = 0\n")


def test_a_name_with_a_dot(capsys: pytest.CaptureFixture[str]) -> None:
    Path("recipes/r.yaml").write_text("data:\n  columns:\n    prompt: p\n    a.b: c\n")
    told = _told(capsys, "data.columns.a.b", "recipe=r", "hardware=cpu")
    assert told.startswith("data.columns.a.b = c\n")
    assert "recipes/r.yaml:4" in told


def test_the_value_of_another_key(capsys: pytest.CaptureFixture[str]) -> None:
    Path("recipes/r.yaml").write_text("lora: {r: '${train.batch_size}'}\ntrain:\n  batch_size: 4\n")
    told = _told(capsys, "lora.r", "recipe=r", "hardware=cpu")
    assert told.startswith("lora.r = 4\n")
    assert "  train.batch_size: recipe=r  recipes/r.yaml:3\n" in told


def test_without_a_key() -> None:
    with pytest.raises(UserError, match="explain wants a KEY"):
        explain([])


@pytest.mark.parametrize(
    ("key", "meant"), [("lora.rr", "lora.r"), ("evaluate.gate", "evaluate.gates"), ("hardwear", "hardware")]
)
def test_a_misspelt_key(key: str, meant: str) -> None:
    with pytest.raises(UserError, match="does not exist") as error:
        explain([key, "hardware=cpu"])
    assert error.value.hint == f"did you mean '{meant}'?"


def test_every_key_group_and_part_can_be_explained(capsys: pytest.CaptureFixture[str]) -> None:
    parts = {key.partition(".")[0] for key in values.defaults() if "." in key}
    for key in [*sorted(values.defaults())[::15], *parts, *sources.groups()]:
        assert _told(capsys, key, "hardware=cpu")
        assert json.loads(_told(capsys, key, "hardware=cpu", "--json"))


def test_words_that_cannot_run_are_explained_too(capsys: pytest.CaptureFixture[str]) -> None:
    told = _told(capsys, "lora.r", "method=full", "hardware=cpu", "quantization.bits=4", "lora.r=3")
    assert told.startswith("lora.r = 3\n")
    assert "  warning: this cannot run: " in told


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(_told(capsys, "lora.r", RECIPE, "hardware=cpu", "--json"))
    assert told["value"] == 4
    assert told["said"][0] == {"value": 4, "layer": "recipe=größe 2", "file": "recipes/größe 2.yaml", "line": 6}
    assert told["said"][-1]["layer"] == "schema"


def test_secrets_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    key = "hf_" + "aB3" * 12
    below = "hub_token: {a: geheim}, token: geheim, auth: {secret_words: [geheim]}, eos_token: '<end>'"
    words = [
        *("recipe=quickstart", "hardware=cpu"),
        *("evaluate.metrics=[pattern]", "evaluate.pattern='https://me:geheim@host/(x)?token=abc'"),
        *(f"name={key}", f"data.chat_template_kwargs={{api_key: geheim, {below}}}"),
    ]
    assert show([*words, "--all"]) == 0
    assert show([*words, "--json"]) == 0
    words += [f"train.extra.hub_token={key}", "tracking.mlflow.uri='https://me:geheim@host/?token=abc'"]
    keys = ("evaluate.pattern", "name", "data.chat_template_kwargs", "train.extra", "train.extra.hub_token", "data")
    for name in keys:  # these words cannot run, and are explained all the same
        assert explain([name, *words]) == 0
        assert explain([name, *words, "--json"]) == 0
    told = capsys.readouterr().out
    for secret in (key, "geheim", "token=abc"):
        assert secret not in told
    assert "***" in told
    assert "<end>" in told


@pytest.mark.parametrize(
    "words",
    [
        ["recipe=quickstart", "hardware=cpu"],
        ["recipe=code", "hardware=rtx3060", "method=dora", "evaluate.gates.perplexity.max=3"],
        ["recipe=qa", "hardware=a100", "method=full", "data.path='a: b #c.jsonl'", "name='1e-3'"],
        [
            RECIPE,
            "hardware=t4",
            "data={path: x.jsonl, chat_template_kwargs: {a: [1, 1e-7, 'no', '2020-01-01', {b: null}], x_y: 'ü'}}",
        ],
        ["hardware=cpu", "evaluate.metrics=[pattern]", "evaluate.pattern='\\${x} \"(\\d+)\"'", "train.max_hours=1e-5"],
        ["hardware=cpu", "evaluate.metrics=[pattern]", "evaluate.pattern='a\\\\\\${x} \\(b\\)'"],
    ],
)
def test_what_is_shown_runs_the_same(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert show([*words, "--all"]) == 0
    text = capsys.readouterr().out
    Path("conf/local").mkdir(parents=True)
    Path("conf/local/same.yaml").write_text(text)
    run, again = load(*words), load("model=tiny", "hardware=cpu", "local@_global_=same")
    wanted = {key: repr(value) for key, (value, _) in flatten(run.config).items()}
    assert {key: repr(value) for key, (value, _) in flatten(again.config).items()} == wanted


def test_show_names_the_origin_of_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert show([RECIPE, "hardware=t4", "train.seed=3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    origin = {line.partition("#")[0].strip(): line.partition("# ")[2] for line in lines[1:]}
    assert origin["r: 4"] == "recipes/größe 2.yaml:6"
    assert origin["lora_alpha: 8.0"] == "filled in: 2 * lora.r"
    assert origin["seed: 3"] == "command line"
    assert origin["lora_dropout: 0.0"] == "default"
    assert origin["optim: paged_adamw_8bit"].startswith("hardware=t4 (")
    assert origin["min_gain: 0"] == "recipes/größe 2.yaml:10"
    assert "use_rslora: false" not in origin  # nobody said it, and it is left out of fingerprints
    assert len({line.index("  # ") for line in lines[1:] if "  # " in line and line.index("  # ") < 58}) == 1
    assert yaml.safe_load("\n".join(lines))["lora"]["r"] == 4


def test_on_the_command_line(tmp_path: Path) -> None:
    ended = sft("explain", "lora.r", RECIPE, "hardware=cpu", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("lora.r = 4\n")
    assert "\x1b" not in ended.out
    ended = sft("show", "recipe=none", cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: recipe 'none' does not exist\n")
