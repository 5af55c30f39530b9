"""What a file of another program means there is what its recipe says here, worked out by hand from their documents."""

import json
import os
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.test_importing import EXAMPLES, VALUES

from sft_runner.config.layers import layers, settled
from sft_runner.config.schema import Config, flatten
from sft_runner.data.formats import FORMATS
from sft_runner.data.formats.columns import ColumnMap
from sft_runner.data.row import Row
from sft_runner.errors import DataError
from sft_runner.importing import recipe
from sft_runner.importing.draft import CARRIED, CHANGED, NO_EFFECT, NOT_CARRIED, Draft, typed
from sft_runner.importing.programs import PROGRAMS, recognised, translated
from sft_runner.importing.rows import NOTHING
from sft_runner.importing.source import Source, read
from sft_runner.importing.targets import peft_targets

AX = "base_model: Qwen/Qwen2.5-0.5B-Instruct\nlearning_rate: 1e-4\n"
LF = "model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct\nstage: sft\ntemplate: qwen\n"
TRL = "model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct\n"
LORA = "adapter: lora\nlora_target_linear: true\n"
PEFT = "use_peft: true\ndataset_name: data/qa.jsonl\n"
OWN = "datasets: [{path: data/qa.jsonl, type: {field_instruction: question, field_output: answer"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the examples and their data, in which commands run."""
    shutil.copytree(EXAMPLES, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def of(text: str, devices: int = 1) -> Draft:
    Path("run.yml").write_text(text, encoding="utf-8")
    source = read(Path("run.yml"))
    return translated(source, recognised(source), devices)


def kinds(draft: Draft) -> dict[str, str]:
    """Key -> the list that it stands in."""
    return {one.key: one.kind for one in draft.findings}


def written(draft: Draft, name: str = "it") -> Config:
    """The recipe, composed beside the words of its command on a CPU."""
    assert recipe.write(draft, Path("recipes", f"{name}.yaml"), Path("run.yml"), "", force=True) == ""
    words = (f"{key}={value}" for key, value in draft.words.items())
    return settled(layers([f"recipe={name}", "hardware=cpu", *words])).config


@pytest.mark.parametrize(
    ("text", "devices", "said"),
    [
        (AX + LORA + "batch_size: 64\nmicro_batch_size: 4", 2, {"train.batch_size": 128}),
        (
            AX + LORA + "batch_size: 99\nmicro_batch_size: 4\ngradient_accumulation_steps: 2\nworld_size: 2",
            1,
            {"train.batch_size": 16},
        ),
        (LF + "per_device_train_batch_size: 2\ngradient_accumulation_steps: 3", 4, {"train.batch_size": 24}),
        (TRL + PEFT + "gradient_accumulation_steps: 4", 1, {"train.batch_size": 32}),
        (AX + "num_epochs: 3\nmax_steps: 70", 1, {"train.max_steps": 70}),
        (LF + "warmup_ratio: 0.05\nnum_train_epochs: 2", 1, {"train.warmup_steps": 0.05, "train.num_train_epochs": 2}),
        (AX + LORA + "lora_r: 16\nlora_alpha: 32", 1, {"lora.r": 16, "lora.lora_alpha": 32}),
        (LF + "lora_rank: 12", 1, {"lora.r": 12, "lora.lora_alpha": 24}),
        (TRL + PEFT, 1, {"lora.r": 16, "lora.lora_alpha": 32, "lora.target_modules": ["q_proj", "v_proj"]}),
        (LF + "lora_target: all", 1, {"lora.target_modules": ["all-linear"]}),
        (AX + "sequence_len: 300", 1, {"data.max_length": 300}),
        (LF, 1, {"data.max_length": 2048, "data.overlong": "truncate", "train.lr_scheduler_type": "linear"}),
        (TRL + PEFT, 1, {"data.max_length": 1024, "train.learning_rate": 2e-5}),
        (AX + "lr_scheduler: constant\ncosine_min_lr_ratio: 0.1", 1, {"train.lr_scheduler_type": "constant"}),
        (
            AX + "lr_scheduler_kwargs: {num_cycles: 0.4}\ncosine_min_lr_ratio: 0.1",
            1,
            {
                "train.lr_scheduler_type": "cosine_with_min_lr",
                "train.extra": {"lr_scheduler_kwargs": {"num_cycles": 0.4, "min_lr_rate": 0.1}},
            },
        ),
        (
            TRL + PEFT + "lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: '{\"min_lr_rate\": 0.2}'",
            1,
            {"train.extra": {"lr_scheduler_kwargs": {"min_lr_rate": 0.2}}},
        ),
        (AX + "train_on_inputs: true", 1, {"data.train_on": "all"}),
        (LF + "mask_history: true", 1, {"data.train_on": "last"}),
        (LF + "train_on_prompt: true", 1, {"data.train_on": "all"}),
        (TRL + PEFT + "completion_only_loss: true", 1, {"data.train_on": "completion"}),
        (TRL + PEFT + "packing: true\npacking_strategy: bfd_split", 1, {"data.overlong": "split"}),
        (LF + "finetuning_type: full\npure_bf16: true", 1, {"hardware.trained_dtype": "bfloat16"}),
        (AX + "bf16: true", 1, {"hardware.trained_dtype": "bfloat16", "hardware.dtype": "bfloat16"}),
        (AX + "bf16: full", 1, {"hardware.trained_dtype": "bfloat16"}),
        (AX + LORA + "bf16: true", 1, {"hardware.trained_dtype": "float32", "hardware.dtype": "bfloat16"}),
        (TRL + "dataset_name: data/qa.jsonl\ndtype: bfloat16", 1, {"hardware.trained_dtype": "bfloat16"}),
        (TRL + "dtype: float32\nbf16: true", 1, {"hardware.dtype": "bfloat16", "hardware.trained_dtype": "float32"}),
        (LF + "bf16: true\ninfer_dtype: float16", 1, {"hardware.dtype": "bfloat16"}),
    ],
)
def test_meanings(text: str, devices: int, said: dict[str, Any], project: Path) -> None:
    if "path:" not in text and "dataset" not in text:
        text += "\ndatasets: [{path: data/qa.jsonl}]" if text.startswith("base") else "\ndataset: identity"
    made = written(of(text + "\n", devices))
    config = {key: value for key, (value, *_) in flatten(made).items()} | {"train.extra": made.train.extra}
    assert {key: config[key] for key in said} == said


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("seed", range(5))
def test_findings_say_what_the_draft_has(program: str, seed: int, project: Path) -> None:
    """Whatever is said: what a finding names is what was written, so no key is told and then overruled."""
    chance = random.Random(1000 + seed)
    said = {key: chance.choice(VALUES) for key in sorted(PROGRAMS[program].known())}
    said["datasets"] = [{"path": "data/qa.jsonl", "type": chance.choice(("alpaca", {"format": "{instruction}!"}))}]
    draft = translated(Source(Path("x.yml"), said, {}, ""), program)
    implied = {"lora.use_dora", "train.loraplus_lr_ratio", "quantization.bits", "data.format", "data.template"}
    for finding in draft.findings:
        if finding.kind not in (CARRIED, CHANGED):
            continue
        for ours in re.split(r"; (?=\w+\.)", finding.ours):
            key, _, value = ours.partition("=")
            assert value or not ours, finding
            mapped = key.startswith(("data.columns.", "data.sources", "evaluate.")) or key in ("method", "model")
            if mapped or key in implied:
                continue
            have = {**draft.settings, **draft.words}
            assert typed(have[key]) == value or isinstance(have[key], dict), (finding, have[key])


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (TRL + PEFT + "fp16: true\nbf16: true", "fp16"),
        (
            AX
            + "datasets: [{path: data/messages, type: chat_template, roles_to_train: [assistant]}, "
            + "{path: data/sharegpt.jsonl, type: sharegpt, roles_to_train: [assistant, user]}]",
            "datasets[1].roles_to_train",
        ),
        (TRL + PEFT + "max_length: 100\nmax_seq_length: 200", "max_seq_length"),
    ],
)
def test_two_keys_that_mean_different_things_are_told(text: str, key: str, project: Path) -> None:
    draft = of(text + "\n")
    assert kinds(draft)[key] == NOT_CARRIED
    assert [todo for todo in draft.todo if key in todo]


def test_all_turns_go_before_some(project: Path) -> None:
    """axolotl trains a turn where train_on_inputs is on, or where its role is named."""
    draft = of(
        AX
        + "train_on_inputs: true\ndatasets: [{path: data/messages, type: chat_template, roles_to_train: [assistant]}]"
    )
    assert draft.settings["data.train_on"] == "all"
    assert kinds(draft)["datasets[0].roles_to_train"] == NO_EFFECT


def test_packs_are_a_thing_to_do(project: Path) -> None:
    draft = of(
        AX + LORA + "datasets: [{path: data/qa.jsonl, type: alpaca_chat.load_qa}]\nsample_packing: true\n"
        "micro_batch_size: 2\nmax_steps: 9\nwarmup_steps: 3\nsequence_len: 400\n"
    )
    (told,) = [todo for todo in draft.todo if "pack" in todo]
    assert "train.batch_size=2" in told
    assert "train.max_steps=9, train.warmup_steps=3 mean" in told
    assert "about 106, at 4 characters" in told  # 4 rows of 15 characters: 400 / (15 / 4)


def test_pretraining_of_llamafactory_is_text(project: Path) -> None:
    info = {"a": {"file_name": "text.jsonl", "columns": {"prompt": "body"}}, "b": {"file_name": "alpaca.jsonl"}}
    Path("data/dataset_info.json").write_text(json.dumps(info))
    draft = of(LF.replace("sft", "pt") + "dataset: a\n")
    assert (draft.choices["data"], draft.settings["data.columns"]) == ("text", {"text": "body"})
    assert draft.settings["train.packing"] is True
    assert "train.packing" not in of(LF.replace("sft", "pt") + "dataset: a\npacking: false\n").words
    assert of(LF.replace("sft", "pt") + "dataset: a\npacking: false\n").settings["train.packing"] is False
    both = of(LF.replace("sft", "pt") + "dataset: b\n").settings["data.columns"]
    assert shown(both, {"instruction": "Name it.", "input": None}) == {"text": "Name it."}
    assert shown(both, {"instruction": "Name it.", "input": "x"}) == {"text": "Name it.\nx"}


def shown(columns: dict[str, str], values: dict[str, Any]) -> dict[str, Any]:
    """What the columns of a recipe make of a row, those that the map makes."""
    made = ColumnMap.of(columns)
    assert made
    row = made.applied(Row(values, "x.jsonl", 1))
    return {name: row.values[name] for name in columns}


def test_columns_that_nobody_reads_there_are_not_read_here(project: Path) -> None:
    row = {"instruction": "a", "input": "b", "output": "c", "system": "s", "history": [["d", "e"]]}
    Path("data/more.jsonl").write_text(json.dumps(row))
    named = {"prompt": "instruction", "response": "output"}
    info = {"named": {"file_name": "more.jsonl", "columns": named}, "usual": {"file_name": "more.jsonl"}}
    Path("data/dataset_info.json").write_text(json.dumps(info))
    draft = of(LF + "dataset: named\n")
    assert draft.settings["data.columns"] == dict.fromkeys(("input", "history", "system"), NOTHING)
    assert [one.note for one in draft.assumed if one.key == "data.columns"]
    assert of(LF + "dataset: usual\n").settings["data.columns"] == dict.fromkeys(("history", "system"), NOTHING)
    system = of(LF + "dataset: usual\ndefault_system: Be kind.\n").settings["data.columns"]
    assert shown({"system": system["system"]}, {"instruction": "a"}) == {"system": "Be kind."}
    ax = of(AX + "datasets: [{path: data/more.jsonl, type: alpaca}]\n")
    assert ax.settings["data.columns"] == dict.fromkeys(("system", "history"), NOTHING)


TALK = [{"speaker": "Kunde", "text": "a"}, {"speaker": "bot", "text": "b", "train": False}, {"speaker": "x", "y": 1}]
SHAREGPT = {"formatting": "sharegpt", "columns": {"messages": "dialog"}}
RENAMED = {
    "axolotl": (
        AX + "datasets: [{path: data/talk.jsonl, type: chat_template, field_messages: made, message_property_mappings: "
        "{role: speaker, content: text}, roles: {user: [Kunde, x], assistant: [bot]}}]\n",
        "made",
    ),
    "axolotl's older words": (
        AX + "datasets: [{path: data/talk.jsonl, type: sharegpt, field_messages: my talk, message_field_role: speaker, "
        "message_field_content: text, roles: {user: [Kunde, x], assistant: [bot]}}]\n",
        "my talk",
    ),
    "LLaMA-Factory": (LF + "dataset: talk\n", "dialog"),
}


@pytest.mark.parametrize("name", RENAMED)
def test_messages_that_are_called_otherwise_are_read(name: str, project: Path) -> None:
    """As here, with all else that a message says, and `text` that is not there is told as everywhere."""
    text, column = RENAMED[name]
    tags = {"role_tag": "speaker", "content_tag": "text", "user_tag": "Kunde", "assistant_tag": "bot"}
    Path("data/dataset_info.json").write_text(
        json.dumps({"talk": {"file_name": "talk.jsonl", **SHAREGPT, "tags": {**tags, "observation_tag": "x"}}})
    )
    Path("data/talk.jsonl").write_text(json.dumps({column: TALK[:2]}) + "\n")
    draft = of(text)
    data = written(draft).data
    assert not [todo for todo in draft.todo if "talk" in todo or "rename" in todo]
    form = replace(FORMATS[data.format], mapping=ColumnMap.of(data.columns))
    example = form.example(Row({column: TALK[:2]}, "talk.jsonl", 1))
    assert example.messages == [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert example.untrained == {1}
    with pytest.raises(DataError, match=r"\[2\]\.value is null"):
        form.example(Row({column: TALK}, "talk.jsonl", 1))


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ("type: chat_template, roles: {critic: [bot]}", "roles"),
        ("type: chat_template, roles: [bot]", "roles"),
        ("type: chat_template, message_property_mappings: {role: who, content: c, tool_calls: t}", "message_property"),
        ("type: alpaca, roles: {user: [bot]}", "roles"),
        ("type: chat_template, field: dialog", "field=dialog"),
        ("type: sharegpt, field: dialog", "field=dialog"),
        ("type: dpo.llama3, field: dialog", "field=dialog"),
        ("type: alpaca, field_messages: dialog", "field_messages=dialog"),
        ("type: completion, field_tools: t", "field_tools=t"),
    ],
)
def test_rows_that_cannot_be_read_so_are_a_thing_to_do(entry: str, key: str, project: Path) -> None:
    draft = of(AX + f"datasets: [{{path: data/qa.jsonl, {entry}}}]\n")
    assert any(f"datasets[0].{key}" in todo for todo in draft.todo)
    assert "dialog" not in str(draft.settings)
    assert "Jinja" not in str(draft.findings)
    name = key.partition("=")[0]
    assert all(one.kind == "not_carried" for one in draft.findings if one.key.startswith(f"datasets[0].{name}"))
    written(draft)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LF.replace("sft", "dpo") + "dataset: identity\n", "the chosen answers by SFT; {} DPO"),
        (LF.replace("sft", "rm") + "dataset: identity\n", "the chosen answers by SFT; {} a reward model"),
        (LF.replace("sft", "ppo") + "dataset: identity\n", "by SFT; {} PPO"),
        (AX + "rl: dpo\ndatasets: [{path: data/qa.jsonl, type: chatml.intel}]\n", "the chosen answers by SFT; {} DPO"),
        (TRL + PEFT + "beta: 0.1\n", "by SFT; {} another trainer of TRL"),
    ],
)
def test_another_way_of_training_is_a_thing_to_do(text: str, said: str, project: Path) -> None:
    said = f"this trains {said.format('the learning rate, schedule and epochs were meant for')}"
    draft = of(text)
    assert draft.todo.count(said) == 1
    written(draft)
    assert f"# {said}\n" in Path("recipes/it.yaml").read_text().partition("defaults:")[0]


def test_a_column_that_nothing_reads_is_refused(project: Path) -> None:
    draft = of(AX + "datasets: [{path: data/qa.jsonl, type: alpaca}]\n")
    for key, value in (
        ("data.columns", {"text": "t"}),
        ("evaluate.sets", {"x": {"path": "data/qa.jsonl", "format": "qa", "columns": {"text": "t"}}}),
    ):
        draft.settings[key] = value
        said = recipe.write(draft, Path("recipes/it.yaml"), Path("run.yml"), "", force=True)
        assert said.startswith(f"{key}{'.x.columns' * (key != 'data.columns')}: column 'text' does not exist")
        del draft.settings[key]


def test_more_rows_than_there_are(project: Path) -> None:
    """There are four: ten are four, four again, and two again."""
    Path("data/dataset_info.json").write_text(
        json.dumps({"a": {"file_name": "qa.jsonl", "num_samples": 10}, "b": {"file_name": "alpaca.jsonl"}})
    )
    draft = of(LF + "dataset: a\neval_dataset: b\nmax_samples: 3\n")
    assert draft.settings["data.sources"]["a"]["weight"] == 2.5
    assert draft.settings["evaluate.sets"]["b"]["limit"] == 3


def test_no_longest_row_is_not_an_open_one(project: Path) -> None:
    draft = of(TRL + PEFT + "max_length: null\n")
    assert "data.max_length" not in draft.settings
    assert draft.settings["data.overlong"] == "error"
    assert [todo for todo in draft.todo if "data.max_length" in todo]


@pytest.mark.parametrize(
    ("more", "row", "wanted"),
    [
        (
            '}, format: "Q: {instruction}\\n{input}", no_input_format: "Just {instruction}"',
            {"question": "Why?", "answer": "x"},
            {"prompt": "Just Why?", "completion": "x"},
        ),
        (
            '}, format: "Q: {instruction}\\n{input}", no_input_format: "Just {instruction}"',
            {"question": "Why?", "answer": "x", "input": "in"},
            {"prompt": "Q: Why?\nin"},
        ),
        (
            ', format: "{{{{a}}}} {{% b %}} {{{instruction}", system_prompt: "Be {{ it\'s \\"so\\""',
            {"question": "Why?", "answer": "x"},
            {"prompt": "{{a}} {% b %} {Why?", "system": 'Be {{ it\'s "so"'},
        ),
        (
            ', format: "{instruction}", field_system: "my sys", system_prompt: S',
            {"question": "Q", "answer": "x", "my sys": "R"},
            {"prompt": "Q", "system": "R"},
        ),
        (
            ', format: "{instruction}", field_system: "my sys", system_prompt: S',
            {"question": "Q", "answer": "x"},
            {"system": "S"},
        ),
        (
            ", system_prompt: You are a pirate.",
            {"question": "Q", "answer": "x"},
            {"instruction": "Q", "output": "x", "system": "You are a pirate."},
        ),
    ],
)
def test_prompts_of_the_users_own(more: str, row: dict[str, Any], wanted: dict[str, Any], project: Path) -> None:
    draft = of(AX + LORA + OWN + more.removeprefix("}") + "}}]\n")
    made = shown(draft.settings["data.columns"], row)
    assert {key: made[key] for key in wanted} == wanted
    assert written(draft).data.columns == draft.settings["data.columns"]
    assert NOT_CARRIED not in [kind for key, kind in kinds(draft).items() if ".type." in key]


def test_a_field_that_is_no_word(project: Path) -> None:
    draft = of(
        AX
        + LORA
        + "datasets: [{path: data/qa.jsonl, type: "
        + '{field_instruction: "a b", field_output: o, format: "{instruction}?"}}]'
    )
    assert shown(draft.settings["data.columns"], {"a b": "Why", "o": "x"}) == {"prompt": "Why?", "completion": "x"}


@pytest.mark.parametrize("format", ["{nobody}", "{instruction", "{% x %}", "{0}", "{instruction!r}"])
def test_a_prompt_that_is_no_format(format: str, project: Path) -> None:
    draft = of(AX + LORA + OWN + f", format: {json.dumps(format)}}}}}]\n")
    assert {kind for key, kind in kinds(draft).items() if ".type." in key} == {NOT_CARRIED}
    assert [todo for todo in draft.todo if "datasets[0].type" in todo]
    assert "data.columns" not in draft.settings


def test_kinds_of_rows_are_known_by_their_whole_name(project: Path) -> None:
    orca = of(AX + "datasets: [{path: data/orca.jsonl, type: alpaca_w_system.load_open_orca}]\n")
    columns = orca.settings["data.columns"]
    assert {key: columns[key] for key in ("instruction", "output", "system")} == {
        "instruction": "question",
        "output": "response",
        "system": "system_prompt",
    }
    for name in ("alpaca.load_nothing", "alpaca_w_system.load_other", "chat_template.argilla"):
        unknown = of(AX + f"datasets: [{{path: data/qa.jsonl, type: {name}}}]\n")
        assert kinds(unknown)["datasets[0].type"] == NOT_CARRIED
        assert "data" not in unknown.choices


def test_what_peft_takes_depends_on_the_model(project: Path) -> None:
    assert peft_targets("phi") == ["q_proj", "v_proj", "fc1", "fc2"]
    assert peft_targets("gpt2") == ["c_attn"]
    assert peft_targets("gemma4") == peft_targets("phi3") == peft_targets("") == []
    Path("mine").mkdir()
    Path("mine/config.json").write_text('{"model_type": "gpt2"}')
    assert of(TRL.replace("Qwen/Qwen2.5-0.5B-Instruct", "./mine") + PEFT).settings["lora.target_modules"] == ["c_attn"]
    for text in (
        TRL.replace("Qwen/", "nobody/") + PEFT,
        AX + "adapter: lora\nlora_target_modules: '.*(q_proj|v_proj)'\n",
    ):
        draft = of(text)
        assert "lora.target_modules" not in draft.settings
        assert [todo for todo in draft.todo if "lora.target_modules" in todo]


@pytest.mark.parametrize(
    ("text", "key", "kind"),
    [
        (LF + "quantization_bit: 4\nquantization_method: hqq", "quantization_method", CHANGED),
        (LF + "quantization_bit: 4\nquantization_type: fp4", "quantization_type", CHANGED),
        (LF + "quantization_bit: 4\nquantization_type: nf4", "quantization_type", NO_EFFECT),
        (LF + "quantization_bit: 4\ndouble_quantization: false", "double_quantization", CHANGED),
        (TRL + PEFT + "load_in_4bit: true\nuse_bnb_nested_quant: false", "use_bnb_nested_quant", CHANGED),
        (TRL + PEFT + "packing: true\npacking_strategy: wrapped", "packing_strategy", NOT_CARRIED),
        (TRL + PEFT + "packing: true\npacking_strategy: bfd", "packing_strategy", NO_EFFECT),
        (TRL + PEFT + "data_seed: 3", "data_seed", NOT_CARRIED),
        (TRL + PEFT + "data_seed: 3\nseed: 3", "data_seed", NO_EFFECT),
        (TRL + PEFT + "loss_type: chunked_nll", "loss_type", NO_EFFECT),
        (TRL + PEFT + "loss_type: dft", "loss_type", NOT_CARRIED),
        (AX + "lr_scheduler: rex\nlr_scheduler_kwargs: {rex_alpha: 0.5}", "lr_scheduler_kwargs", NOT_CARRIED),
        (AX + "lr_scheduler_kwargs: num_cycles=1", "lr_scheduler_kwargs", NOT_CARRIED),
        (AX + "lr_scheduler: linear\ncosine_min_lr_ratio: 0.1", "cosine_min_lr_ratio", NO_EFFECT),
    ],
)
def test_what_changes_training_is_not_called_without_effect(text: str, key: str, kind: str, project: Path) -> None:
    assert kinds(of(text + "\n"))[key] == kind


def test_a_shape_and_its_numbers_go_together(project: Path) -> None:
    draft = of(AX + "lr_scheduler: rex\nlr_scheduler_kwargs: {rex_alpha: 0.5}\n")
    assert "train.extra.lr_scheduler_kwargs" not in draft.settings


def test_the_files_of_a_split(project: Path) -> None:
    files = "{path: json, data_files: {train: data/qa.jsonl, test: data/alpaca.jsonl}}"
    assert of(TRL + f"datasets: [{files}]\n").settings["data.path"] == "data/qa.jsonl"
    assert of(AX + f"datasets: [{files}]\n").settings["data.path"] == "data/qa.jsonl"


def test_secrets_are_written_nowhere(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sft_runner.commands.import_ import main

    token, key = "hf_" + "abcDEF123456" * 3, "sk-" + "abcDEF123456" * 3
    Path("run.yml").write_text(
        f"# my run with {token} and {key}\nbase_model: https://bob:hunter2x@host/x\nadapter: lora\nlora_r: 8\n"
        "learning_rate: 1e-4\nchat_template_kwargs: {note: 'token: 0a9b8c7d6e5f4a3b2c1d0e9f'}\n"
        "datasets:\n  - path: https://h/x.jsonl?token=abcdef123456789\n"
        f"  - path: data/qa.jsonl\n    type: {{system_prompt: '{key}', field_instruction: question}}\n"
    )
    secret = (token, key, "hunter2x", "abcdef123456789", "0a9b8c7d6e5f")
    for options in ([], ["--json"]):
        main(["run.yml", "--force", *options])
        said = capsys.readouterr()
        assert not [one for one in secret if one in said.out + said.err]
    text = Path("recipes/run.yaml").read_text()
    assert not [one for one in secret if one in text]
    assert "***" in text.splitlines()[0]


@pytest.mark.parametrize("what", ["file", "link"])
def test_recipes_that_are_no_folder(what: str, project: Path) -> None:
    from sft_runner.commands.import_ import main
    from sft_runner.errors import UserError

    if what == "file":
        Path("recipes").write_text("x")
    else:
        os.symlink("nowhere", "recipes")
    with pytest.raises(UserError, match="recipes: is no folder"):
        main(["trl_full.yaml"])


def test_things_to_do_are_counted(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sft_runner.commands.import_ import main

    Path("run.yml").write_text(AX + LORA + "datasets: [{path: o/n, type: alpaca}]\n")
    assert main(["run.yml"]) == 0
    assert "1 thing to do before it can run as there; then look" in capsys.readouterr().out


def test_texts_of_several_lines_can_be_read(project: Path) -> None:
    draft = of(AX + LORA + OWN + ', format: "It\'s\\n\\n{instruction}"}}]\n')
    written(draft)
    text = Path("recipes/it.yaml").read_text()
    assert "prompt: \"It's\\n\\n{{ question | default('', true) }}\"" in text
