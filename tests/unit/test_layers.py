"""Composition with origins: the same as Hydra composes, and every value knows where it is said."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pace import in_loops
from sft_runner.config import composing, sources
from sft_runner.config import layers as module
from sft_runner.config.layers import layers, settled
from sft_runner.config.run import Run
from sft_runner.config.schema import flatten
from sft_runner.errors import SftError

PLAIN = "data: {path: a.jsonl}\n"
SFT = """defaults:
  - schema
  - model: tiny
  - hardware: cpu
  - data: auto
  - method: lora
  - stage: all
  - serve: transformers
  - tracking: [mlflow]
  - recipe: null
  - optional local@_global_: default
  - _self_
"""
PROJECTS: dict[str, tuple[dict[str, str], str]] = {
    "nothing": ({}, "hardware=cpu"),
    "a recipe of the user's own": ({"recipes/r.yaml": PLAIN}, "recipe=r hardware=cpu"),
    "a name with a blank": ({"recipes/größe zwei.yaml": PLAIN}, "'recipe=größe zwei' hardware=cpu"),
    "a parent": (
        {"recipes/p.yaml": "lora: {r: 4}\n" + PLAIN, "recipes/r.yaml": "defaults: [p]\nlora: {r: 2}\n"},
        "recipe=r",
    ),
    "a parent behind": (
        {"recipes/p.yaml": "lora: {r: 4}\n", "recipes/r.yaml": "defaults: [_self_, p]\nlora: {r: 2}\n"},
        "recipe=r",
    ),
    "a chain": (
        {
            "recipes/a.yaml": "defaults: [{override /model: tiny}]\ntrain: {seed: 1, batch_size: 4}\n",
            "recipes/b.yaml": "defaults: [a]\ntrain: {seed: 2, max_steps: 9}\n",
            "recipes/c.yaml": "defaults: [b, {override /data: qa}]\ntrain: {seed: 3}\n",
        },
        "recipe=c hardware=rtx3060",
    ),
    "two that override": (
        {
            "recipes/a.yaml": "defaults: [{override /method: dora}]\n",
            "recipes/c.yaml": "defaults: [a, {override /method: qlora}]\n",
        },
        "recipe=c hardware=rtx3060",
    ),
    "a parent that is not there": ({"recipes/r.yaml": "defaults: [gone]\n"}, "recipe=r"),
    "the command line over an override": (
        {"recipes/c.yaml": "defaults: [{override /method: qlora}]\n"},
        "recipe=c method=full hardware=a100",
    ),
    "a hidden preset": ({"conf/hardware/cpu.yaml": "name: cpu\nlora_r: 3\n"}, "hardware=cpu"),
    "a group with a parent": (
        {"conf/hardware/box.yaml": "defaults: [rtx3060]\nname: box\nmemory_gb: 20\n"},
        "hardware=box",
    ),
    "a group file that chooses": (
        {"conf/method/mine.yaml": "# @package _global_\ndefaults: [dora]\nlora: {r: 32}\n"},
        "method=mine hardware=cpu",
    ),
    "a package of another part": ({"conf/data/odd.yaml": "# @package train\nseed: 3\n"}, "data=odd hardware=cpu"),
    "a package below": (
        {"conf/data/odd.yaml": "# @package train.early_stopping\npatience: 3\n"},
        "data=odd hardware=cpu",
    ),
    "a package that is no part": ({"conf/data/odd.yaml": "# @package nothing\nseed: 3\n"}, "data=odd hardware=cpu"),
    "this machine's own": (
        {"conf/local/default.yaml": "hardware: {price_per_hour: 2}\ntracking: {mlflow: {uri: 'http://x'}}\n"},
        "hardware=cpu",
    ),
    "no own for once": ({"conf/local/default.yaml": "output_dir: elsewhere\n"}, "hardware=cpu local@_global_=null"),
    "an sft.yaml of the user's own": ({"conf/sft.yaml": SFT + "train: {seed: 7}\n"}, "train.batch_size=2"),
    "an sft.yaml with self in front": (
        {
            "conf/sft.yaml": SFT.replace("  - _self_\n", "").replace("- schema", "- schema\n  - _self_")
            + "lora: {r: 5}\n"
        },
        "method=dora",
    ),
    "an sft.yaml without schema": ({"conf/sft.yaml": "defaults: [_self_]\ntrain: {seed: 7}\n"}, ""),
    "trackers": ({}, "hardware=cpu tracking=[mlflow,tensorboard]"),
    "no trackers": ({}, "hardware=cpu tracking=[]"),
    "one tracker": ({}, "hardware=cpu tracking=none"),
    "an interpolation": (
        {"recipes/r.yaml": "lora: {r: '${train.batch_size}'}\ntrain: {batch_size: 4}\n"},
        "recipe=r hardware=cpu",
    ),
    "a chain of interpolations": (
        {
            "recipes/r.yaml": "lora: {r: '${train.batch_size}', lora_alpha: '${.r}'}\n"
            "train: {batch_size: '${data.limit}'}\n"
        },
        "recipe=r hardware=cpu data.limit=6",
    ),
    "the environment": (
        {"recipes/r.yaml": "name: 'x-${oc.env:SFT_TEST_WORD}'\nlora: {r: '${oc.env:SFT_TEST_NUMBER}'}\n"},
        "recipe=r hardware=cpu",
    ),
    "an environment that is not there": (
        {"recipes/r.yaml": "name: '${oc.env:SFT_TEST_GONE}'\n"},
        "recipe=r hardware=cpu",
    ),
    "an interpolated list": (
        {"recipes/r.yaml": "lora: {target_modules: '${evaluate.metrics}'}\n"},
        "recipe=r hardware=cpu",
    ),
    "an interpolation of nothing": ({"recipes/r.yaml": "name: '${train.gone}'\n"}, "recipe=r hardware=cpu"),
    "an interpolation of a wrong type": ({"recipes/r.yaml": "lora: {r: '${model.name}'}\n"}, "recipe=r hardware=cpu"),
    "an escaped interpolation": (
        {"recipes/r.yaml": "evaluate: {pattern: '\\${a}', metrics: [pattern]}\n"},
        "recipe=r hardware=cpu",
    ),
    "an interpolation in a free mapping": (
        {"recipes/r.yaml": "train: {extra: {a: '${train.seed}', b: ['${train.seed}', 2]}}\n"},
        "recipe=r hardware=cpu +train.extra.c=1",
    ),
    "a choice named through another": (
        {
            "conf/sft.yaml": SFT.replace("- data: auto", "- data: ${hardware}_rows"),
            "conf/data/cpu_rows.yaml": "limit: 3\n",
        },
        "",
    ),
    "numbers as text": (
        {"recipes/r.yaml": "train: {learning_rate: '5e-3', warmup_steps: 1e-1}\nlora: {r: '4'}\n"},
        "recipe=r",
    ),
    "a free number": ({"recipes/r.yaml": "train: {extra: {adam_epsilon: 1e-7, day: 2020-01-01}}\n"}, "recipe=r"),
    "a wrong number": ({"recipes/r.yaml": "train: {learning_rate: fast}\n"}, "recipe=r"),
    "null where none goes": ({"recipes/r.yaml": "train: {batch_size: null}\n"}, "recipe=r"),
    "null for a part": ({"recipes/r.yaml": "lora: null\n"}, "recipe=r"),
    "null for a mapping": ({"recipes/r.yaml": "evaluate: {gates: null}\n"}, "recipe=r"),
    "null for a list": ({"recipes/r.yaml": "export: null\n"}, "recipe=r"),
    "a value that is missing": ({"recipes/r.yaml": "name: '???'\n"}, "recipe=r hardware=cpu"),
    "gates of two layers": (
        {
            "recipes/p.yaml": "evaluate: {gates: {loss: {min_gain: 0}}}\n",
            "recipes/r.yaml": "defaults: [p]\nevaluate: {gates: {loss: {max: 2}}}\n",
        },
        "recipe=r hardware=cpu evaluate.gates={perplexity:{max:4}}",
    ),
    "a gate on the command line": (
        {"recipes/r.yaml": "evaluate: {gates: {loss: {min_gain: 0}}}\n"},
        "recipe=r hardware=cpu evaluate.gates.loss.min_gain=0.5 evaluate.gates.perplexity.max=3",
    ),
    "a gate less": (
        {"recipes/r.yaml": "evaluate: {gates: {loss: {min_gain: 0, max: 2}, perplexity: {max: 3}}}\n"},
        "recipe=r hardware=cpu ~evaluate.gates.loss",
    ),
    "a limit less": (
        {"recipes/r.yaml": "evaluate: {gates: {loss: {min_gain: 0, max: 2}}}\n"},
        "recipe=r hardware=cpu ~evaluate.gates.loss.max",
    ),
    "a setting less": ({}, "hardware=cpu ~lora.r"),
    "a mapping that becomes a word": (
        {"recipes/r.yaml": "train: {extra: {a: {b: 1}}}\n"},
        "recipe=r hardware=cpu train.extra.a=3",
    ),
    "a word that becomes a mapping": (
        {"recipes/r.yaml": "train: {extra: {a: 1}}\n"},
        "recipe=r hardware=cpu train.extra.a.b=3",
    ),
    "a list over a list": (
        {"recipes/r.yaml": "export: [adapter]\n"},
        "recipe=r hardware=cpu export=[safetensors,archive]",
    ),
    "a part as a mapping": ({}, "hardware=cpu lora={r:4,use_dora:true} data={path:x.jsonl,documents:{wordings:2}}"),
    "a plus": ({}, "hardware=cpu +lora.r=4 +train.extra.neftune_noise_alpha=5 ++train.seed=3"),
    "a plus on something": ({}, "hardware=cpu +train.seed=4"),
    "a new key": ({}, "hardware=cpu +train.nothing=4"),
    "a quoted word": ({}, "hardware=cpu \"name='a, b = c'\" 'data.path=\"my rows.jsonl\"'"),
    "a null": ({}, "hardware=cpu train.learning_rate=null evaluate.limit=null"),
    "hydra's own": ({}, "hardware=cpu hydra.job.chdir=false"),
    "hydra's own that is not there": ({}, "hardware=cpu hydra.nothing=false"),
    "a search path": ({"more/hardware/far.yaml": "name: far\n"}, "hydra.searchpath=[file://more] hardware=far"),
    "the machine's preset": ({}, "hardware=auto lora.r=4"),
    "the machine's preset, hidden": ({"conf/hardware/cpu.yaml": "tflops: 3\n"}, "hardware=auto"),
    "the machine's preset with a parent": (
        {"conf/hardware/cpu.yaml": "defaults: [minimal]\ntflops: 3\n"},
        "hardware=auto",
    ),
    "a list where a word goes": ({}, "hardware=[cpu,t4]"),
    "one key twice": ({}, "hardware=cpu lora.r=3 lora.r=5"),
    "one group twice": ({}, "hardware=cpu hardware=t4"),
    "a group without": ({}, "hardware=cpu ~tracking"),
    "a group without data": ({}, "hardware=cpu ~data"),
    "two recipes": (
        {"recipes/a.yaml": "lora: {r: 3}\n", "recipes/b.yaml": "train: {seed: 4}\n"},
        "recipe=[a,b] hardware=cpu",
    ),
    "no recipe": ({}, "recipe=null hardware=cpu"),
    "an unknown recipe": ({}, "recipe=cod"),
    "an unknown key": ({"recipes/r.yaml": "lora: {rank: 4}\n"}, "recipe=r hardware=cpu"),
    "a recipe that is a list": ({"recipes/r.yaml": "[1]\n"}, "recipe=r hardware=cpu"),
    "an empty recipe": ({"recipes/r.yaml": ""}, "recipe=r hardware=cpu"),
    "an empty preset": ({"conf/hardware/box.yaml": ""}, "hardware=box"),
    "a folder conf/recipe": (
        {"conf/recipe/x.yaml": "# @package _global_\nlora: {r: 3}\n", "recipes/r.yaml": PLAIN},
        "recipe=r hardware=cpu",
    ),
    "an anchor": (
        {"recipes/r.yaml": "train: &t {seed: 3}\nevaluate: {sets: {a: &a {path: x.jsonl}, b: {<<: *a, limit: 3}}}\n"},
        "recipe=r hardware=cpu",
    ),
    "line ends of Windows": ({"recipes/r.yaml": "lora:\r\n  r: 4\r\n"}, "recipe=r hardware=cpu"),
    "a mark at its beginning": (
        {"recipes/r.yaml": "\ufefflora:\n  r: 4\n", "conf/hardware/box.yaml": "\ufeffname: box\n"},
        "recipe=r hardware=box",
    ),
    "no adapter": ({}, "method=full hardware=a100 train.extra={a:1}"),
    "a nested group": ({"conf/data/deep/x.yaml": "limit: 3\n"}, "data=deep/x hardware=cpu"),
    "numbers for names": ({"recipes/r.yaml": "evaluate: {gates: {1: {min: 2}}}\n"}, "recipe=r hardware=cpu"),
    "a recipe that sets the machine": ({"recipes/r.yaml": "hardware: {dtype: float16}\n"}, "recipe=r hardware=cpu"),
    "a choice that a recipe makes twice": (
        {"recipes/r.yaml": "defaults: [{override /data: qa}, {override /data: alpaca}]\n"},
        "recipe=r hardware=cpu",
    ),
    "defaults that are no list": ({"recipes/r.yaml": "defaults: {a: b}\n"}, "recipe=r hardware=cpu"),
    "an optional parent": ({"recipes/r.yaml": "defaults: [{optional /data: gone}]\n"}, "recipe=r hardware=cpu"),
    "a group that is put elsewhere": (
        {"recipes/r.yaml": "defaults: [{/method@_global_: dora}]\n"},
        "recipe=r hardware=cpu",
    ),
    "a recipe that extends itself": (
        {"recipes/r.yaml": "defaults: [p]\n", "recipes/p.yaml": "defaults: [r]\n"},
        "recipe=r",
    ),
    "a preset that extends itself": ({"conf/hardware/box.yaml": "\ndefaults: [box]\n"}, "hardware=box"),
    "a parent of two": (
        {
            "recipes/r.yaml": "defaults: [a, b]\n",
            "recipes/a.yaml": "defaults: [p]\nlora: {r: 2}\n",
            "recipes/b.yaml": "defaults: [p]\n",
            "recipes/p.yaml": "lora: {r: 3}\n",
        },
        "recipe=r hardware=cpu",
    ),
    "a group of a mapping": ({}, "hardware=cpu 'data={path: x.jsonl, documents: {wordings: 2}}'"),
    "a value that a later layer fills": (
        {"recipes/r.yaml": "name: '???'\nlora: {r: 4}\ntrain: {extra: {neftune_noise_alpha: '???'}}\n"},
        "recipe=r hardware=cpu name=q train.extra.neftune_noise_alpha=5",
    ),
    "a value that says nothing": (
        {"recipes/p.yaml": "lora: {r: 4}\n", "recipes/r.yaml": "defaults: [p]\nlora: {r: '???'}\n"},
        "recipe=r hardware=cpu",
    ),
    "a free value that nobody fills": ({"recipes/r.yaml": "train: {extra: {a: '???'}}\n"}, "recipe=r hardware=cpu"),
    "a list over a mapping": (
        {
            "recipes/p.yaml": "data: {chat_template_kwargs: {a: {b: 1}}}\n",
            "recipes/r.yaml": "defaults: [p]\ndata: {chat_template_kwargs: {a: [1]}}\n",
        },
        "recipe=r hardware=cpu",
    ),
    "a mapping over a list": (
        {
            "recipes/p.yaml": "data: {chat_template_kwargs: {a: [1]}}\n",
            "recipes/r.yaml": "defaults: [p]\ndata: {chat_template_kwargs: {a: {b: 1}}}\n",
        },
        "recipe=r hardware=cpu",
    ),
    "a part for free names": ({"recipes/r.yaml": "train: {extra: '${lora}'}\n"}, "recipe=r hardware=cpu"),
    "a part below free names": (
        {"recipes/r.yaml": "data: {chat_template_kwargs: {a: '${lora}'}}\n"},
        "recipe=r hardware=cpu",
    ),
    "a list in a list": ({}, "hardware=cpu lora.target_modules=[[a]]"),
    "a choice of a recipe": (
        {"recipes/p.yaml": "lora: {r: 3}\n", "recipes/r.yaml": "defaults: [{/recipe: p}]\n"},
        "recipe=r hardware=cpu",
    ),
    "presets in a circle": (
        {
            "conf/data/a.yaml": "defaults: [{/data@_global_: b}]\n",
            "conf/data/b.yaml": "defaults: [{/data@_global_: a}]\n",
        },
        "data=a hardware=cpu",
    ),
    "an sft.yaml with a mistake of Hydra's": ({"conf/sft.yaml": SFT + "hydra: {jobb: 3}\n"}, ""),
    "an sft.yaml with words for Hydra": ({"conf/sft.yaml": SFT + "hydra: {job: {chdir: false}}\n"}, "lora.r=3"),
    "an sft.yaml that overrides Hydra's": (
        {"conf/sft.yaml": SFT.replace("- _self_", "- _self_\n  - override hydra/job_logging: gone")},
        "",
    ),
    "an sft.yaml with a mistake": ({"conf/sft.yaml": SFT + "trian: {seed: 3}\n"}, ""),
    "an sft.yaml that is broken": ({"conf/sft.yaml": SFT + "train: {seed: 3\n"}, ""),
    "other settings of this machine": (
        {"conf/local/x.yaml": "train: {seed: 9}\n", "conf/local/default.yaml": "train: {seed: 8}\n"},
        "hardware=cpu local@_global_=x",
    ),
    "a file that is broken, by its path": (
        {"conf/hardware/box.yaml": "name: {\n", "recipes/r.yaml": "defaults: [/hardware/box]\n"},
        "recipe=r hardware=cpu",
    ),
    "texts that look like numbers": (
        {
            "recipes/r.yaml": "model: {name: a/b, revision: 1234e56}\n"
            "evaluate: {metrics: [pattern], pattern: 1e3}\nlora: {target_modules: [1e3, q]}\n"
        },
        "recipe=r hardware=cpu",
    ),
    "a dotted key": ({"recipes/r.yaml": "lora.r: 4\n"}, "recipe=r hardware=cpu"),
}
"""What is to be composed -> the user's files, the words of the command line."""


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SFT_TEST_WORD", "ü b")
    monkeypatch.setenv("SFT_TEST_NUMBER", "3")
    sources.forget()
    yield
    sources.forget()


def _write(files: dict[str, str]) -> None:
    for name, text in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())


def _words(text: str) -> list[str]:
    return shlex.split(text)


def _outcome(make: Any) -> Run | str:
    try:
        run: Run = make()
        return run
    except SftError as error:
        return error.show()


def _load(words: list[str]) -> Run:
    """As the command line composes its run."""
    composing.check(words)
    return composing.by_hydra(words)


def _compare(words: list[str]) -> None:
    """Both ways lead to the same run, down to types and the order of mappings, or to the same message."""
    by_hydra = _outcome(lambda: _load(words))
    ours = _outcome(lambda: settled(layers(words)))
    if isinstance(by_hydra, str) or isinstance(ours, str):
        assert ours == by_hydra
        return
    assert by_hydra.composed
    assert ours.composed
    for mine, theirs in ((ours.config, by_hydra.config), (ours.composed, by_hydra.composed)):
        known = {key: repr(value) for key, (value, _) in flatten(theirs).items()}
        assert {key: repr(value) for key, (value, _) in flatten(mine).items()} == known
    assert {key: name for key, name in by_hydra.choices.items() if not key.startswith("hydra")} == ours.choices
    assert (ours.decisions, ours.warnings, ours.overrides) == (
        by_hydra.decisions,
        by_hydra.warnings,
        by_hydra.overrides,
    )


@pytest.mark.parametrize("name", PROJECTS)
def test_the_same_as_hydra(name: str) -> None:
    files, words = PROJECTS[name]
    _write(files)
    _compare(_words(words))


SHIPPED = sorted(path.stem for path in (sources.PACKAGE.parents[1] / "recipes").glob("*.yaml"))
PRESETS = sorted(path.stem for path in (sources.PACKAGE.parents[1] / "conf/hardware").glob("*.yaml"))
METHODS = sorted(path.stem for path in (sources.PACKAGE.parents[1] / "conf/method").glob("*.yaml"))


@pytest.mark.parametrize(
    "words",
    [
        *(["recipe=" + recipe, "hardware=" + PRESETS[i % len(PRESETS)]] for i, recipe in enumerate(SHIPPED)),
        *(
            pytest.param(["recipe=quickstart", f"hardware={preset}", "lora.r=4"], marks=pytest.mark.slow)
            for preset in [*PRESETS, "auto"]
        ),
        *(["recipe=code", "hardware=a100", "method=" + method, "train.learning_rate=3e-5"] for method in METHODS),
    ],
    ids=" ".join,
)
def test_what_is_shipped_is_composed_as_hydra_does(words: list[str]) -> None:
    _compare(words)


@pytest.mark.parametrize(
    "name",
    [
        *("a parent", "two trackers", "gates of two layers", "an interpolation", "this machine's own"),
        *("a value that a later layer fills", "texts that look like numbers", "an sft.yaml of the user's own"),
    ],
)
def test_only_what_is_rare_goes_through_hydra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_hydra(*_: Any) -> Any:
        raise AssertionError("went through Hydra")

    monkeypatch.setattr(module, "_by_hydra", by_hydra)
    files, words = PROJECTS.get(name, ({}, "tracking=[mlflow,wandb] hardware=cpu"))
    _write(files)
    layers(_words(words))


def test_every_layer_is_told_from_the_lowest_to_the_one_that_holds() -> None:
    _write(
        {
            "conf/hardware/box.yaml": "name: box\n# a rank\nlora_r: 3\n",
            "conf/local/default.yaml": "train: {seed: 6}\n",
            "recipes/parent.yaml": "lora:\n  r: 4\ntrain: {seed: 5}\n",
            "recipes/mine.yaml": "defaults:\n  - parent\n  - override /model: tiny\n\nlora:\n  # more\n  r: 8\n",
        }
    )
    found = layers(["recipe=mine", "hardware=box", "lora.r=16", "lora.r=32"])
    told = [(one.value, str(one.place), one.place.layer) for one in found.said["lora.r"]]
    assert told[0][::2] == (None, "schema")
    assert told[1:] == [
        (4, "recipes/parent.yaml, line 2", "recipe=parent"),
        (8, "recipes/mine.yaml, line 7", "recipe=mine"),
        (16, "command line", "command line"),
        (32, "command line", "command line"),
    ]
    assert str(found.said["train.seed"][-1].place) == "conf/local/default.yaml, line 1"
    assert found.said["train.seed"][-1].place.layer == "local=default"
    assert str(found.place("hardware.lora_r")) == "conf/hardware/box.yaml, line 3"
    assert {group: str(place) for group, place in found.chosen.items() if group in ("model", "recipe")} == {
        "model": "recipes/mine.yaml, line 3",
        "recipe": "command line",
    }


def test_the_default_is_told_with_the_line_of_the_schema() -> None:
    place = layers(["hardware=cpu"]).said["train.early_stopping.patience"][0].place
    assert place.file is not None
    assert "patience: int | None" in place.file.read_text().splitlines()[place.line - 1]


def test_each_free_name_has_a_place_of_its_own() -> None:
    _write({"recipes/r.yaml": "evaluate:\n  gates:\n    loss:\n      min_gain: 0\n      max: 3\n"})
    found = layers(["recipe=r", "hardware=cpu", "evaluate.gates.loss.max=2", "~evaluate.gates.loss.min_gain"])
    assert {key: str(place) for key, place in found.inside.items() if key.startswith("evaluate.gates.")} == {
        "evaluate.gates.loss": "recipes/r.yaml, line 3",
        "evaluate.gates.loss.max": "command line",
    }
    assert found.config.evaluate.gates == {"loss": {"max": 2}}


def test_a_detected_preset_is_told_by_its_file() -> None:
    _write({"conf/hardware/cpu.yaml": "name: cpu\ntflops: 3\n"})
    found = layers(["hardware=auto"])
    assert str(found.place("hardware.tflops")) == "conf/hardware/cpu.yaml, line 2"
    assert found.config.hardware.chosen


def test_nothing_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is read as it is at that moment, and two folders are two projects."""
    for folder, seed in (("a", 1), ("b", 2)):
        (tmp_path / folder / "recipes").mkdir(parents=True)
        (tmp_path / folder / "recipes/r.yaml").write_text(f"train: {{seed: {seed}}}\n")
    for folder, seed in (("a", 1), ("b", 2), ("a", 1)):
        monkeypatch.chdir(tmp_path / folder)
        assert layers(["recipe=r", "hardware=cpu"]).config.train.seed == seed
        assert sources.recipes()["r"].values == {"train": {"seed": seed}}
    for seed in range(3, 9):
        Path("recipes/r.yaml").write_text(f"train: {{seed: {seed}}}\n")
        assert layers(["recipe=r", "hardware=cpu"]).config.train.seed == seed


def test_what_is_found_is_nobody_elses() -> None:
    """A caller that changes what it got changes nothing for the next one."""
    _write({"recipes/r.yaml": "evaluate: {gates: {loss: {max: 3}}}\nlora: {target_modules: [q_proj]}\n"})
    for _ in range(2):
        found = layers(["recipe=r", "hardware=cpu"])
        assert found.config.evaluate.gates == {"loss": {"max": 3}}
        assert found.config.lora.target_modules == ["q_proj"]
        run = settled(found)
        for config in (found.config, run.config):
            config.evaluate.gates["loss"]["max"] = 4
            config.evaluate.gates["x"] = 1
            config.lora.target_modules.append("v_proj")
            config.force.append("train")


def test_this_machines_own_settings_have_their_lines_and_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    _write({"conf/local/default.yaml": "# mine\ntrain: {learning_rate: 0.5}\n"})
    words = ["hardware=cpu"]
    found = layers(words)
    assert str(found.place("train.learning_rate")) == "conf/local/default.yaml, line 2"
    assert "sft" in found.files
    monkeypatch.setattr(module, "_laid", lambda _: None)
    by_hydra = layers(words).config.train.learning_rate
    monkeypatch.undo()
    with sources.without_local():
        ours = layers(words)
        monkeypatch.setattr(module, "_laid", lambda _: None)
        without = layers(words)
    assert by_hydra == 0.5
    assert ours.config.train.learning_rate is without.config.train.learning_rate is None
    assert ours.place("train.learning_rate") == ours.said["train.learning_rate"][0].place


def test_what_only_hydra_composes_keeps_its_choices() -> None:
    _write({"recipes/r.yaml": "defaults: [{override /method: dora}]\nlora: {r: 4}\n"})
    found = layers(["recipe=r", "hardware=cpu", "hydra.job.name=x", "train.extra.a={b: '???'}", "train.extra.a.b=1"])
    assert str(found.chosen["method"]) == "recipes/r.yaml, line 1"
    assert "recipe/r" in found.files
    assert found.said["lora.r"][-1].place.layer == module.COMPOSED


def test_a_recipe_that_is_gone_is_gone_for_hydra_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that was deleted nor one of another project is composed."""
    for folder in ("a", "b"):
        (tmp_path / folder / "recipes").mkdir(parents=True)
    _write({"a/recipes/base.yaml": "train: {seed: 77}\n", "a/recipes/other.yaml": "train: {seed: 7}\n"})
    monkeypatch.chdir(tmp_path / "a")
    assert composing.asked(["recipe=base", "hardware=cpu"])[0].train.seed == 77
    Path("recipes/base.yaml").unlink()
    with pytest.raises(SftError):
        composing.asked(["recipe=base", "hardware=cpu"])
    monkeypatch.chdir(tmp_path / "b")
    _write({"recipes/kid.yaml": "\ndefaults:\n  - other\n"})
    with pytest.raises(SftError):
        composing.asked(["recipe=kid", "hardware=cpu"])
    with pytest.raises(SftError) as error:
        layers(["recipe=kid", "hardware=cpu"])
    assert str(error.value) == "recipes/kid.yaml, line 3: recipe 'other' does not exist"


def test_a_choice_that_vanishes_is_missed_at_once() -> None:
    _write({"conf/data/mine.yaml": "limit: 3\n", "recipes/r.yaml": "defaults:\n  - override /data: mine\n"})
    assert layers(["recipe=r", "hardware=cpu"]).config.data.limit == 3
    Path("conf/data/mine.yaml").unlink()
    with pytest.raises(SftError, match=r"recipes/r.yaml, line 2: data 'mine' does not exist"):
        layers(["recipe=r", "hardware=cpu"])


def test_a_hundred_recipes_take_little_time() -> None:
    _write({f"recipes/r{i}.yaml": f"defaults: [{{override /model: tiny}}]\ntrain: {{seed: {i}}}\n" for i in range(100)})
    layers(["recipe=r0", "hardware=cpu"])

    def compose() -> None:
        for number in range(100):
            assert layers([f"recipe=r{number}", "hardware=cpu"]).config.train.seed == number

    assert in_loops(compose) < 60
