"""Files of other programs become recipes, and every key of theirs ends in exactly one list."""

import json
import random
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.command import sft

from sft_runner import load, plan
from sft_runner.config import file
from sft_runner.config.schema import Config
from sft_runner.importing import axolotl, llamafactory, recipe
from sft_runner.importing.draft import CARRIED, CHANGED, LISTS, Draft, as_number, typed
from sft_runner.importing.programs import PROGRAMS, recognised, translated
from sft_runner.importing.rows import NOTHING
from sft_runner.importing.source import Source, read

EXAMPLES = Path(__file__).parents[1] / "importing"
EXPECTED: dict[str, Any] = json.loads((EXAMPLES / "expected.json").read_text(encoding="utf-8"))
"""What was looked at key by key: the recipe and the lists of each example."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the examples and their data, in which commands run."""
    shutil.copytree(EXAMPLES, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def imported(path: str, **options: Any) -> Draft:
    source = read(Path(path))
    return translated(source, recognised(source), **options)


def of(text: str, name: str = "run.yml") -> Draft:
    Path(name).write_text(text, encoding="utf-8")
    return imported(name)


def lists(draft: Draft) -> dict[str, dict[str, str]]:
    """List -> key -> what it became."""
    return {kind: {one.key: one.ours for one in draft.findings if one.kind == kind} for kind in LISTS}


def test_there_is_an_example_of_everything() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.*") if path.name != "expected.json"}
    assert names == {f"{program}_{method}" for program in PROGRAMS for method in ("lora", "qlora", "dora", "full")}
    assert set(EXPECTED) == {path.name for path in EXAMPLES.glob("*.*")} - {"expected.json"}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_examples_become_what_is_expected(name: str, project: Path) -> None:
    draft, wanted = imported(name), EXPECTED[name]
    assert draft.program == wanted["program"]
    assert lists(draft) == wanted["lists"]
    assert draft.choices == wanted["choices"]
    assert draft.settings == wanted["settings"]
    assert draft.words == wanted["words"]
    assert {one.key: one.value for one in draft.assumed} == wanted["assumed"]
    assert draft.todo == wanted["todo"]


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_examples_compose_and_plan(name: str, project: Path) -> None:
    draft, stem = imported(name), Path(name).stem
    assert recipe.write(draft, Path("recipes", f"{stem}.yaml"), Path(name), "", force=False) == ""
    run = load(f"recipe={stem}", "hardware=cpu", *(f"{key}={value}" for key, value in draft.words.items()))
    assert run.config.train.learning_rate == draft.settings["train.learning_rate"]
    assert run.config.train.batch_size == draft.settings["train.batch_size"]
    assert run.config.adapter == ("none" if "full" in name else "lora")
    assert run.config.lora.use_dora == ("dora" in name)
    assert (run.config.quantization.bits == "4") == ("qlora" in name)
    assert "prepare" in str(plan(run))
    for finding in draft.findings:
        for ours in re.split(r"; (?=\w+\.)", finding.ours) if finding.kind in (CARRIED, CHANGED) else ():
            assert holds(ours, run.config, draft), (finding.key, ours)


def holds(ours: str, config: Config, draft: Draft) -> bool:
    """Whether the recipe, or its command, has what a finding says."""
    key, _, value = ours.partition("=")
    if key in ("method", "model"):
        return draft.choices[key] == value
    if key.startswith("hardware.") and key not in draft.words:
        return any(ours in todo for todo in draft.todo)
    found: Any = config
    for part in key.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    if isinstance(found, dict):
        return all(f"{name}: {typed(inner)}" in value for name, inner in found.items() if inner != NOTHING)
    return typed(found) == value or (as_number(found) is not None and as_number(found) == as_number(value))


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("seed", range(6))
def test_every_key_is_in_exactly_one_list(program: str, seed: int, project: Path) -> None:
    """Whatever is said: all keys of a program with values of all kinds, and some that nobody knows."""
    chance = random.Random(seed)
    entry = ("path", "type", "split", "data_files", "field_messages", "roles", "revision", "fraction", "columns", "zzz")
    said = {key: chance.choice(VALUES) for key in sorted(PROGRAMS[program].known())}
    said["datasets"] = [{key: chance.choice(VALUES) for key in entry} for _ in range(chance.randint(1, 3))]
    source = Source(Path("x.yml"), said | {"no_such_key": 1}, {}, "")
    draft = translated(source, program)
    found = Counter(one.key for one in draft.findings)
    assert found == Counter(source.keys().keys())
    assert {one.key for one in draft.findings if one.kind == "unknown"} >= {"no_such_key", "datasets[0].zzz"}
    assert not draft.pending


VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 0.5, 1e-4, "2e-4", "auto", "none", "x", "a,b", "${oc.env:HOME}", "???", ""),
    *([], ["a"], [1, "b"], {}, {"a": 1}, float("nan"), float("inf"), 10**400, "1e999", [{"path": "x"}], [{}], [[]]),
    *(
        "lora",
        "full",
        "steps",
        "epoch",
        "no",
        "s3://x",
        "o/n",
        "é ü",
        "\0",
        "a\nb",
        "y" * 5000,
        ["assistant"],
        ["user"],
    ),
    *({"role": "from", "content": "value"}, {"format": "{instruction} ${x}"}, {"field_output": ["a"]}),
)


@pytest.mark.parametrize("seed", range(10))
def test_the_text_says_what_the_draft_says(seed: int, project: Path) -> None:
    chance = random.Random(seed)
    said = {key: chance.choice(VALUES) for key in sorted(axolotl.KNOWN)}
    path = ("a: b", "é ü/x.jsonl", "a\nb", "#x", "'q\"", "2e-4", "1.0", "null", "- x")[seed % 9]
    said["datasets"] = [{"path": path, "type": {"format": "a\n{instruction}: #x", "field_output": "o: p"}}]
    draft = translated(Source(Path("x.yml"), said, {}, ""), "axolotl")
    target = Path("x.yaml")
    target.write_text(recipe.text(draft, "mein rezept ü", Path("odd\nname"), "x # \x1b[31m\ny: z"), encoding="utf-8")
    written = file.read(target)
    assert written.values is not None
    assert written.header["goal"] == "x # [31m y: z"
    for key, value in draft.settings.items():
        found: Any = written.values
        for part in key.split(".") if value != {} else ():
            found = found[part]
        assert value == {} or found == value, key


def test_nothing_of_the_environment_gets_into_a_recipe(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", "shh")
    draft = of("base_model: ${oc.env:MY_SECRET}\ndatasets: [{path: '${oc.env:MY_SECRET}', type: alpaca}]\n")
    assert not draft.settings.get("model.name")
    assert "shh" not in str(draft)
    assert "data.path" not in draft.settings
    assert lists(draft)["not_carried"].keys() >= {"base_model", "datasets[0].path"}


def test_secrets_are_not_shown(project: Path) -> None:
    draft = of(
        "model_name_or_path: a/b\nstage: sft\ntemplate: qwen\nhf_hub_token: hf_abc\nswanlab_api_key: xyz\n"
        "ray_init_kwargs: {password: pw}\nmedia_dir: https://user:pw2@host/x\n"
    )
    shown = str(draft.findings)
    assert not any(secret in shown for secret in ("hf_abc", "xyz", "'pw'", "pw2"))
    assert shown.count("***") == 4


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("micro_batch_size: 2\ngradient_accumulation_steps: 4", "train.batch_size", 32),
        ("batch_size: 24\nmicro_batch_size: 2", "train.batch_size", 24),
        ("world_size: 2\nmicro_batch_size: 3", "train.batch_size", 6),
        ("num_epochs: 2\nevals_per_epoch: 4", "train.eval_steps", 0.125),
        ("num_epochs: 4\nsave_strategy: epoch", "train.save_steps", 0.25),
        ("warmup_ratio: 0.1", "train.warmup_steps", 0.1),
        ("warmup_steps: 0\nwarmup_ratio: 0.2", "train.warmup_steps", 0.2),
        ("train_on_inputs: true", "data.train_on", "all"),
        ("excess_length_strategy: truncate", "data.overlong", "truncate"),
        ("adapter: lora\nlora_target_modules: q_proj", "lora.target_modules", ["q_proj"]),
        ("adapter: lora\nloraplus_lr_ratio: 4", "train.loraplus_lr_ratio", 4),
        ("adapter: lora\npeft_init_lora_weights: pissa", "lora.init_lora_weights", "pissa"),
        ("adapter: lora\nlora_model_dir: old/adapter", "train.continue_from", "old/adapter"),
        ("model_revision: " + "a" * 40, "model.revision", "a" * 40),
        ("chat_template_jinja: data/mine.jinja", "data.template", "data/mine.jinja"),
        ("val_set_size: 0", "data.held_out", 0.1),
        ("val_set_size: 40", "data.held_out", 40),
    ],
)
def test_meanings(text: str, key: str, value: Any, project: Path) -> None:
    Path("data/mine.jinja").write_text("{{ messages }}")
    devices = {"devices": 4} if value == 32 else {}
    Path("run.yml").write_text(f"base_model: Qwen/Qwen2.5-0.5B-Instruct\n{text}\n")
    assert imported("run.yml", **devices).settings[key] == value


@pytest.mark.parametrize(
    ("entry", "format", "columns"),
    [
        ("type: sharegpt", "conversations", None),
        ("type: chat_template", "messages", None),
        ("type: chat_template, field_messages: chat", "messages", {"messages": "chat"}),
        ("type: completion", "text", None),
        ("type: completion, field: body", "text", {"text": "body"}),
        ("type: gpteacher", "alpaca", {"output": "response"}),
        ("type: {field_instruction: q, field_output: a}", "alpaca", {"instruction": "q", "output": "a"}),
        ("type: input_output", None, None),
    ],
)
def test_rows_of_axolotl(entry: str, format: str | None, columns: Any, project: Path) -> None:
    draft = of(f"base_model: x/y\nsequence_len: 9\ndatasets: [{{path: data/qa.jsonl, {entry}}}]\n")
    assert (draft.choices.get("data"), draft.settings.get("data.columns")) == (format, columns)
    assert ("datasets[0].type" in lists(draft)["not_carried"]) == (format is None)


def test_rows_of_llamafactory(project: Path) -> None:
    info = {
        "pairs": {"hf_hub_url": "o/pairs", "ranking": True, "columns": {"prompt": "q", "chosen": "c", "rejected": "r"}},
        "odd": {"file_name": "no.jsonl", "formatting": "sharegpt", "tags": {"role_tag": "who", "user_tag": "kunde"}},
        "both": {"file_name": "qa.jsonl", "formatting": "sharegpt", "ranking": True, "tags": {"content_tag": "says"}},
        "some": {"file_name": "qa.jsonl", "num_samples": 2, "columns": {"prompt": "question", "response": "answer"}},
        "script": {"script_url": "x", "nonsense": 1},
    }
    Path("infos").mkdir()
    Path("infos/dataset_info.json").write_text(json.dumps(info))
    Path("run.yaml").write_text(
        "model_name_or_path: a/b\nstage: sft\ndataset: pairs,odd,both,some,script,missing\ntemplate: qwen\n"
    )
    draft = imported("run.yaml", folders=[Path("infos")])
    sources = draft.settings["data.sources"]
    assert sources["pairs"] == {
        "path": "hf://datasets/o/pairs",
        "format": "preference",
        "columns": {"prompt": "q", "chosen": "c", "rejected": "r"}
        | dict.fromkeys(("system", "tools", "functions"), NOTHING),
    }
    assert sources["some"]["cap"] == 2
    unread = dict.fromkeys(("input", "history", "system"), NOTHING)
    assert sources["some"]["columns"] == {"instruction": "question", "output": "answer"} | unread
    found = lists(draft)
    assert {key.removeprefix("dataset_info.json: ") for key in found["not_carried"]} >= {
        *("both.tags", "script.script_url")
    }
    assert {"dataset_info.json: odd.tags", "dataset_info.json: odd.tags.user_tag"} <= set(found["carried"])
    assert "dataset_info.json: script.nonsense" in found["unknown"]
    told = "\n".join(draft.todo)
    assert all(
        word in told
        for word in ("pin the commit", "infos/no.jsonl", "'both' names its messages", "'script'", "'missing'")
    )
    assert found["changed"]["dataset"].startswith(
        "data.sources.pairs.path=hf://datasets/o/pairs; data.sources.odd.path="
    )


def test_a_commit_that_the_cache_knows_is_pinned(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(project / "hub"))
    refs = project / "hub" / "datasets--o--known" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("b" * 40)
    text = "base_model: x/y\ndatasets: [{path: o/known, type: alpaca}, {path: o/other, type: alpaca, split: test}]\n"
    draft = of(text)
    paths = [entry["path"] for entry in draft.settings["data.sources"].values()]
    assert paths == [f"hf://datasets/o/known@{'b' * 40}", "hf://datasets/o/other/*test*"]
    assert [todo for todo in draft.todo if "o/other" in todo]
    assert not [todo for todo in draft.todo if "known" in todo]


def test_what_trl_learns_of_a_row(project: Path) -> None:
    start = "model_name_or_path: a/b\nuse_peft: true\n"
    assert of(f"{start}dataset_name: data/messages\n").settings["data.train_on"] == "all"
    assert (
        of(f"{start}dataset_name: data/messages\nassistant_only_loss: true\n").settings["data.train_on"] == "assistant"
    )
    Path("data/pairs.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    assert of(f"{start}dataset_name: data/pairs.jsonl\n").settings["data.train_on"] == "completion"
    unseen = of(f"{start}dataset_name: o/n\n")
    assert "data.train_on" not in unseen.settings
    assert any("data.train_on=all" in todo for todo in unseen.todo)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["axolotl_qlora.yml", "axolotl_dora.yml", "llamafactory_lora.yaml", "trl_qlora.yaml"])
def test_the_rows_of_examples_are_read(name: str, project: Path) -> None:
    """Columns and formats are those of the files: rows become tokens. In a process of its own, which hides torch."""
    stem = Path(name).stem
    assert not recipe.write(imported(name), Path("recipes", f"{stem}.yaml"), Path(name), "", force=False)
    ended = sft("preview", f"recipe={stem}", "hardware=cpu", "model=tiny", cwd=project)
    assert ended.code == 0, ended.said
    assert "tokens, " in ended.out


def test_names_of_keys_that_are_no_texts(project: Path) -> None:
    draft = of("base_model: x/y\nsequence_len: 10\n1: a\ntrue: b\nnull: c\n2024-01-01: d\n")
    assert set(lists(draft)["unknown"]) == {"1", "true", "null", "2024-01-01"}


def test_llamafactory_in_json(project: Path) -> None:
    values = yaml.safe_load(Path("llamafactory_lora.yaml").read_text())
    Path("same.json").write_text(json.dumps(values))
    assert lists(imported("same.json")) == lists(imported("llamafactory_lora.yaml"))


def test_known_keys_stand_in_one_table_only() -> None:
    for tables in (axolotl.keys, llamafactory.keys):
        named = [*tables.NO_EFFECT, *tables.NOT_CARRIED, *tables.OTHER.split()]
        assert [name for name, count in Counter(named).items() if count > 1] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_examples_are_valid_for_trl(project: Path) -> None:
    """TRL's own parser takes them, but for the key that is planted."""
    from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, SFTConfig, TrlParser

    for path in sorted(project.glob("trl_*.yaml")):
        path.write_text(
            "".join(line for line in path.read_text().splitlines(True) if not line.startswith("deepspeed"))
        )  # not installed
        parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig))
        *_, rest = parser.parse_args_and_config(["--config", str(path), "--use_cpu"], return_remaining_strings=True)
        unknown = lists(imported(path.name))["unknown"]
        assert [word.removeprefix("--") for word in rest if word.startswith("--")] == [*unknown], path.name
