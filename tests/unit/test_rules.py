"""What was left open is filled in, with its reason; precedence is what the documentation says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sft_runner import load
from sft_runner.config import sources
from sft_runner.config.run import Run
from sft_runner.config.schema import Lora
from sft_runner.errors import UserError, UserErrors
from sft_runner.method import method_of
from sft_runner.planning import plan

QWEN = "Qwen/Qwen2.5-0.5B-Instruct"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    sources.forget()


def reasons(run: Run) -> dict[str, str]:
    return {decision.key: decision.reason for decision in run.decisions}


def approximated(run: Run) -> set[str]:
    return {decision.key for decision in run.decisions if decision.approximates}


def test_rtx3060_means_an_adapter_on_an_8_bit_base() -> None:
    run = load("recipe=code", "hardware=rtx3060")
    assert run.config.quantization.bits == "8"
    assert run.config.hardware.per_device_train_batch_size == 1
    assert run.config.data.max_length == 1024
    assert approximated(run) == {"quantization.bits", "data.max_length", "hardware.dtype", "hardware.optim"}


def test_a_method_beats_the_preset_and_the_command_line_beats_both() -> None:
    assert load("recipe=code", "hardware=rtx3060", "method=qlora").config.quantization.bits == "4"
    run = load("recipe=code", "hardware=rtx3060", "method=qlora", "quantization.bits=none")
    assert run.config.quantization.bits == "none"
    assert "quantization.bits" not in approximated(run)


def test_minimal_lowers_the_rank_unless_it_is_set() -> None:
    run = load("recipe=code", "hardware=minimal")
    assert (run.config.lora.r, run.config.lora.lora_alpha) == (4, 8.0)
    assert "lora.r" in approximated(run)
    assert load("recipe=code", "hardware=minimal", "lora.r=16").config.lora.r == 16


def test_alpha_follows_the_rank_unless_it_is_set() -> None:
    assert load("recipe=code", "hardware=cpu", "lora.r=32").config.lora.lora_alpha == 64
    assert load("recipe=code", "hardware=cpu", "lora.r=32", "lora.lora_alpha=5").config.lora.lora_alpha == 5


def test_a_cap_only_lowers() -> None:
    run = load("recipe=code", "hardware=a100", "data.max_length=128")
    assert run.config.data.max_length == 128
    assert "data.max_length" not in reasons(run)


def test_every_filled_in_value_has_a_reason() -> None:
    run = load("recipe=code", "hardware=auto")
    assert {"hardware", "quantization.bits", "lora.r", "lora.lora_alpha", "train.learning_rate"} <= set(reasons(run))
    assert all(reasons(run).values())


def test_users_own_recipes_and_groups_come_first(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "quickstart.yaml").write_text("lora: {r: 3}\n")
    (tmp_path / "recipes" / "mine.yaml").write_text("defaults: [quickstart, _self_]\ntrain: {batch_size: 5}\n")
    (tmp_path / "conf" / "hardware").mkdir(parents=True)
    (tmp_path / "conf" / "hardware" / "mybox.yaml").write_text("name: mybox\nmemory_gb: 8\n")
    (tmp_path / "conf" / "local").mkdir()
    (tmp_path / "conf" / "local" / "default.yaml").write_text("train: {seed: 9}\n")
    config = load("recipe=mine", "model=tiny", "data=dates", "hardware=mybox").config
    assert (config.lora.r, config.train.batch_size, config.hardware.name, config.train.seed) == (3, 5, "mybox", 9)
    assert load("recipe=mine", "model=tiny", "data=dates", "train.seed=1").config.train.seed == 1


def test_a_group_on_the_command_line_beats_the_recipes_choice() -> None:
    assert load("recipe=quickstart", "model=qwen2.5-1.5b").config.model.name.startswith("Qwen/")


def test_free_fields_of_the_trainer_pass_and_can_be_added_one_by_one() -> None:
    run = load("recipe=quickstart", "train.extra={adam_beta2: 0.95}")
    assert run.config.train.extra == {"adam_beta2": 0.95}
    assert load("recipe=quickstart", "+train.extra.adam_beta2=0.9").config.train.extra == {"adam_beta2": 0.9}


def test_the_run_is_named_after_its_recipe() -> None:
    assert load("recipe=quickstart").config.name == "quickstart"
    assert load("recipe=quickstart", "name=mine").config.name == "mine"


def test_errors_are_collected() -> None:
    with pytest.raises(UserErrors) as raised:
        load("recipe=quickstart", "lora.rr=4", "hardware=rtx306")
    assert len(raised.value.errors) == 2


def test_a_group_file_with_an_unknown_key_is_found(tmp_path: Path) -> None:
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "mine.yaml").write_text("# @package _global_\nlora: {rr: 4}\n")
    with pytest.raises(UserError, match=r"rr"):
        load("recipe=quickstart", "method=mine")


# --- methods --------------------------------------------------------------------------------------------------------


METHODS: dict[str, tuple[list[str], str, float]] = {
    "lora": (["method=lora"], "lora", 2e-4),
    "8 bits are LoRA too": (["method=lora", "quantization.bits=8"], "lora", 2e-4),
    "qlora": (["method=qlora"], "qlora", 2e-4),
    "4 bits by hand": (["method=lora", "quantization.bits=4"], "qlora", 2e-4),
    "dora": (["method=dora"], "dora", 2e-4),
    "qdora": (["method=dora", "quantization.bits=4"], "dora", 2e-4),
    "lora_plus": (["method=lora_plus"], "lora_plus", 5e-5),
    "another ratio": (["method=lora_plus", "train.loraplus_lr_ratio=4"], "lora_plus", 1e-4),
    "full": (["method=full"], "full", 1e-5),
}


@pytest.mark.parametrize(("words", "name", "rate"), METHODS.values(), ids=METHODS)
def test_each_method_has_its_learning_rate(words: list[str], name: str, rate: float) -> None:
    run = load("recipe=code", "hardware=cpu", *words)
    assert method_of(run.config).name == name
    assert run.config.train.learning_rate == pytest.approx(rate)
    assert reasons(run)["train.learning_rate"] == f"{name}: {method_of(run.config).evidence}"
    assert run.warnings == ()


def test_a_method_file_of_ones_own_has_the_right_rate(tmp_path: Path) -> None:
    (tmp_path / "conf" / "method").mkdir(parents=True)
    text = "# @package _global_\nadapter: none\nquantization: {bits: none}\n"
    (tmp_path / "conf" / "method" / "whole.yaml").write_text(text)
    assert load("recipe=code", "method=whole").config.train.learning_rate == 1e-5


def test_what_full_leaves_open() -> None:
    run = load("recipe=code", "hardware=minimal", "method=full")
    assert run.config.quantization.bits == "none"
    assert run.config.lora == Lora()
    assert not {"lora.r", "lora.lora_alpha"} & set(reasons(run))
    by_hand = load("recipe=code", "hardware=rtx3060", "adapter=none")  # of method=lora, whose bits are the preset's
    assert by_hand.config.quantization.bits == "none"


def test_coarser_weights_are_an_approximation() -> None:
    assert "hardware.trained_dtype" in approximated(load("recipe=code", "hardware.trained_dtype=bfloat16"))


@pytest.mark.parametrize("word", ["train.learning_rate=0", "train.learning_rate=-1e-4", "lora.lora_alpha=0",
    "train.max_hours=0", "train.max_steps=0", "train.max_steps=-2"])  # fmt: skip
def test_values_that_cannot_be_meant(word: str) -> None:
    with pytest.raises(UserError, match=word.partition("=")[0]):
        load("recipe=code", word)


def test_a_preset_without_a_name_has_that_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "conf" / "hardware").mkdir(parents=True)
    (tmp_path / "conf" / "hardware" / "mybox.yaml").write_text("memory_gb: 8\n")
    run = load("recipe=code", "hardware=mybox")
    assert run.config.hardware.name == "mybox"
    assert reasons(run)["quantization.bits"] == "hardware=mybox"


def test_what_the_command_line_said_is_not_the_presets() -> None:
    run = load("recipe=code", "hardware=rtx3060", "hardware.optim=adamw_torch_fused")
    assert reasons(run)["hardware.optim"] == "command line"
    assert reasons(run)["hardware.dtype"] == "hardware=rtx3060"


def test_a_shipped_models_hub_id_has_its_architecture() -> None:
    by_file, by_id = load("recipe=quickstart", "model=qwen2.5-0.5b"), load("recipe=quickstart", f"model.name={QWEN}")
    assert by_id.config.model == by_file.config.model
    assert load("recipe=quickstart", "model.name=no/such").config.model.architecture == {}


def test_missing_data_is_told_with_other_mistakes_or_by_planning() -> None:
    with pytest.raises(UserErrors, match=r"data\.path"):
        load("recipe=qa", "method=full", "quantization.bits=4")
    with pytest.raises(UserError, match=r"data\.path"):
        plan(load("recipe=qa", "hardware=cpu"))


CONFLICTS: dict[str, tuple[list[str], str, str]] = {
    "8 bits and full": (["method=full", "quantization.bits=8"], "quantization.bits=8", "method=lora"),
    "LoRA+ and full": (["method=full", "train.loraplus_lr_ratio=16"], "loraplus_lr_ratio", "=null"),
    "LoRA+ and its optimizer": (["method=lora_plus", "hardware.optim=lomo"], "hardware.optim=lomo", "adamw_torch"),
    "PiSSA and 4 bits": (["method=qlora", "lora.init_lora_weights=pissa"], "lora.init_lora_weights=pissa", "bits=none"),
    "OLoRA and the preset": (["hardware=rtx3060", "lora.init_lora_weights=olora"], "8 bits", "bits=none"),
    "PiSSA in bfloat16": (
        ["lora.init_lora_weights=pissa", "hardware.trained_dtype=bfloat16"],
        "hardware.trained_dtype=bfloat16",
        "hardware.trained_dtype=float32",
    ),
    "an odd orthogonal rank": (["lora.init_lora_weights=orthogonal", "lora.r=5"], "lora.r is 5", "lora.r=6"),
    "experts and dropout": (
        ["lora.target_parameters=[experts.down_proj]", "lora.lora_dropout=0.1"],
        "lora.lora_dropout",
        "lora.lora_dropout=0",
    ),
    "experts and DoRA": (["method=dora", "lora.target_parameters=[a]"], "lora.use_dora", "lora.use_dora=false"),
    "all-linear experts and DoRA": (
        ["method=dora", "model=olmoe-1b-7b"],
        "lora.use_dora does not go with experts",
        "lora.target_modules=[q_proj",
    ),
    "float16 without a card": (["hardware=cpu", "hardware.dtype=float16"], "hardware.dtype=float16", "float32"),
    "float16 and bfloat16": (
        ["hardware=rtx3060", "hardware.dtype=float16", "hardware.trained_dtype=bfloat16"],
        "hardware.trained_dtype=bfloat16",
        "hardware.trained_dtype=float32",
    ),
    "nothing to train": (["lora.target_modules=[]"], "lora.target_modules is empty", "all-linear"),
    "a metric to watch": (["train.early_stopping.metric=exact_mach"], "exact_mach", "exact_match"),
    "stopping without rows": (["data.held_out=0", "train.early_stopping.patience=2"], "patience", "data.held_out"),
    "looks without rows": (["data.held_out=0", "train.eval_steps=10"], "train.eval_steps", "data.held_out"),
    "going on without an adapter": (["train.continue_from=nothing"], "train.continue_from", "run folder"),
}


@pytest.mark.parametrize(("words", "said", "remedy"), CONFLICTS.values(), ids=CONFLICTS)
def test_conflicts_are_told_with_their_remedy(words: list[str], said: str, remedy: str) -> None:
    with pytest.raises(UserError) as raised:
        load("recipe=code", "hardware=cpu", *words)
    assert said in raised.value.message
    assert remedy in raised.value.hint


def test_conflicts_are_collected() -> None:
    words = ["method=full", "quantization.bits=4", "train.loraplus_lr_ratio=2", "data.held_out=0", "train.eval_steps=5"]
    with pytest.raises(UserErrors) as raised:
        load("recipe=code", *words)
    assert len(raised.value.errors) == 3


def test_float16_goes_with_a_quantised_base() -> None:
    assert load("recipe=code", "hardware=rtx3060", "hardware.dtype=float16").config.quantization.bits == "8"


def test_experts_alone_can_train() -> None:
    words = ["lora.target_modules=[]", "lora.target_parameters=[experts.down_proj]"]
    assert load("recipe=code", *words).config.lora.target_modules == []


WARNINGS: dict[str, tuple[list[str], str]] = {
    "above": (["recipe=code", "train.learning_rate=5e-3"], "5e-3 is above the usual range of lora, 2e-5 to 2e-3"),
    "below": (["recipe=code", "train.learning_rate=1e-6"], "1e-6 is below the usual range of lora"),
    "full": (["recipe=code", "method=full", "train.learning_rate=2e-4"], "usual range of full, 1e-6 to 1e-4"),
    "settings of no adapter": (["recipe=code", "method=full", "lora.r=4"], "lora.r=4 without effect"),
    "pinned for LoRA": (
        ["recipe=pinned", "method=full"],
        "recipe 'pinned' pins train.learning_rate=5e-5 for method=lora; method=full learns at 1e-5 by default: add "
        "train.learning_rate=null to take it",
    ),
    "pinned, and DoRA by a setting": (
        ["recipe=pinned", "lora.use_dora=true"],
        "recipe 'pinned' pins train.learning_rate=5e-5 for method=lora; method=dora learns at 2e-4",
    ),
    "pinned, and full by a setting": (["recipe=pinned", "adapter=none"], "method=full learns at 1e-5 by default"),
    "pinned over the rate of an own method": (
        ["recipe=pinned", "method=slow"],
        "method=slow learns at 3e-5 by default: add train.learning_rate=3e-5 to take it",
    ),
    "a method without effect": (
        ["recipe=whole", "method=lora"],
        "recipe 'whole' sets adapter=none, quantization.bits=none, which beats method=lora: this run is full; add "
        "adapter=lora quantization.bits=auto",
    ),
    "DoRA over QLoRA": (
        ["recipe=dora", "method=qlora"],
        "recipe 'dora' sets lora.use_dora=true, which beats method=qlora",
    ),
    "4 bits over LoRA": (["recipe=bits", "method=lora"], "sets quantization.bits=4, which beats method=lora"),
    "a threshold for nothing": (["recipe=code", "train.early_stopping.min_delta=0.1"], "patience is not set"),
    "a metric for nothing": (["recipe=code", "train.early_stopping.metric=exact_match"], "patience is not set"),
    "a commit of a folder": (["recipe=quickstart", "model.revision=main"], "model.revision without effect"),
    "pinned by its parent, for DoRA": (
        ["recipe=child", "method=qlora"],
        "recipe 'child' pins train.learning_rate=5e-5",
    ),
}
SILENT: dict[str, list[str]] = {
    "the recipe's own method": ["recipe=child", "method=dora"],
    "a rate on the command line": ["recipe=pinned", "method=lora_plus", "train.learning_rate=2e-5"],
    "the method's own rate": ["recipe=pinned", "method=full", "train.learning_rate=null"],
    "a tiny model": ["recipe=quickstart", "method=full"],
    "a recipe that is full by its settings": ["recipe=whole", "method=full"],
    "a method by settings, over the recipe's": [
        "recipe=whole",
        "method=lora",
        "adapter=lora",
        "quantization.bits=auto",
    ],
    "the preset's bits": ["recipe=pinned", "hardware=minimal", "method=lora"],
    "a metric for the best step": [
        "recipe=code",
        "train.early_stopping.metric=loss",
        "train.load_best_model_at_end=true",
    ],
    "a pinned rate that is the method's": ["recipe=pinned", "method=lora_plus"],
}


@pytest.fixture
def _pinned(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "pinned.yaml").write_text("defaults: [code, _self_]\ntrain: {learning_rate: 5e-5}\n")
    for name, text in (
        ("whole", "defaults: [code, _self_]\nadapter: none\nquantization: {bits: none}\n"),
        ("dora", "defaults: [code, _self_]\nlora: {use_dora: true}\n"),
        ("bits", "defaults: [code, _self_]\nquantization: {bits: '4'}\n"),
    ):
        (tmp_path / "recipes" / f"{name}.yaml").write_text(text)
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "slow.yaml").write_text("# @package _global_\ntrain: {learning_rate: 3e-5}\n")
    (tmp_path / "recipes" / "child.yaml").write_text("defaults: [pinned, override /method: dora, _self_]\n")


@pytest.mark.usefixtures("_pinned")
@pytest.mark.parametrize(("words", "said"), WARNINGS.values(), ids=WARNINGS)
def test_doubts_are_warnings(words: list[str], said: str) -> None:
    warnings = load("hardware=cpu", *words).warnings
    assert len(warnings) == 1
    assert said in warnings[0]


@pytest.mark.usefixtures("_pinned")
@pytest.mark.parametrize("words", SILENT.values(), ids=SILENT)
def test_what_is_no_doubt(words: list[str]) -> None:
    run = load("hardware=cpu", *words)
    assert run.warnings == ()
    if "train.learning_rate=null" in words:
        assert run.config.train.learning_rate == 1e-5


def test_an_adapter_that_is_trained_further_gives_its_shape(tmp_path: Path) -> None:
    values: dict[str, Any] = {"peft_type": "LORA", "r": 6, "lora_alpha": 9, "target_modules": ["v_proj", "q_proj"]}
    values |= {"use_dora": True, "use_rslora": True}
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "adapter_config.json").write_text(json.dumps(values))
    (tmp_path / "earlier" / "adapter_model.safetensors").write_bytes(b"")
    run = load("recipe=quickstart", "hardware=cpu", "train.continue_from=earlier")
    assert (run.config.lora.r, run.config.lora.lora_alpha) == (6, 9)
    assert run.config.lora.target_modules == ["q_proj", "v_proj"]
    assert run.config.lora.use_dora
    assert run.config.lora.use_rslora
    assert not load("recipe=quickstart", "train.continue_from=earlier", "lora.use_dora=false").config.lora.use_dora
    assert reasons(run)["lora.r"] == "the adapter of train.continue_from"
    assert (
        load("recipe=quickstart", "train.continue_from=earlier", "lora.r=8").config.lora.r == 8
    )  # planning refuses it


# --- what is told before anything runs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["hardware.optim=adamw_tor"], "hardware.optim: 'adamw_tor' does not exist\n  did you mean 'adamw_torch'?"),
        (["train.lr_scheduler_type=cosin"], "did you mean 'cosine'?"),
        (["hardware.attn_implementation=flash_attn_2"], "did you mean 'flash_attention_2'?"),
        (["lora.lora_dropout=1"], "lora.lora_dropout=1.0 is too large"),
        (["hardware.max_length=4"], "hardware.max_length=4 is too small"),
        (["hardware.memory_gb=-1"], "hardware.memory_gb=-1.0 is too small"),
        (["train.logging_steps=0"], "nothing would be reported"),
        (["train.save_steps=2.5"], "train.save_steps=2.5 is no number of steps"),
        (["train.eval_steps=1.5"], "train.eval_steps=1.5 is no number of steps"),
        (["data.held_out=1.5"], "data.held_out: 1.5 is neither a share nor a number of rows"),
        (
            ["data.path=null", "data.sources={x: {path: a.jsonl, held_out: 1.5}}"],
            "data.sources.x.held_out: 1.5 is neither a share nor a number of rows",
        ),
        (["data.columns={question: '{{ foo('}"], "data.columns.question: not Jinja, line 1"),
        (
            ["data.path=null", "data.sources={x: {path: a.jsonl, columns: {text: '{% if %}'}}}"],
            "data.sources.x.columns.text: not Jinja, line 1",
        ),
        (
            ["evaluate.sets={x: {path: a.jsonl, columns: {text: '{{ foo('}}}"],
            "evaluate.sets.x.columns.text: not Jinja, line 1",
        ),
        (
            ["lora.target_modules=[q_prj]"],
            "lora.target_modules: module 'q_prj' does not exist\n  did you mean 'q_proj'?",
        ),
        (["lora.target_modules=[q_proj,lm_head]"], "'lm_head' is the output head"),
        (["lora.target_modules=[all-linear,q_proj]"], "all-linear does not go with other names"),
        (["tracking.mlflow.uri='http://host/?token=x'"], "a part after '?'"),
        (["tracking.mlflow.uri='http://me:secret@host/'"], "a name or a password"),
    ],
)
def test_what_cannot_run_is_told_before(words: list[str], expected: str) -> None:
    with pytest.raises(UserError) as raised:
        load("recipe=quickstart", "hardware=cpu", *words)
    assert expected in raised.value.show()
    assert "token=x" not in raised.value.show()


@pytest.mark.parametrize(
    "words",
    [
        ["hardware.optim=lion_8bit", "train.lr_scheduler_type=warmup_stable_decay"],
        ["hardware.attn_implementation=flex_attention"],
        ["lora.target_modules=[embed_tokens,self_attn.q_proj,down_proj]"],
        ["model=olmoe-1b-7b", "lora.target_modules=[q_proj,gate_proj,up_proj]"],
        ["model=gemma3-4b", "lora.target_modules=[fc1]"],  # of the part that sees, whose names are not known
        ["train.save_steps=3", "train.logging_steps=0.5"],
    ],
)
def test_names_that_exist_pass(words: list[str]) -> None:
    assert load("recipe=quickstart", "hardware=cpu", *words)


def test_rows_longer_than_the_model_was_made_for_are_doubted() -> None:
    longer = load("recipe=code", "hardware=cpu", "model=smollm2-135m", "data.max_length=9000").warnings
    assert any("data.max_length=9000 is more than the 8192 positions" in warning for warning in longer)
    assert load("recipe=code", "hardware=cpu", "model=smollm2-135m", "data.max_length=8192").warnings == ()


@pytest.mark.parametrize("where", ["recipes/mine.yaml", "conf/method/mine.yaml"])
def test_a_rate_may_be_an_interpolation(where: str, tmp_path: Path) -> None:
    file = tmp_path / where
    file.parent.mkdir(parents=True)
    begin = "defaults: [code, _self_]\n" if where.startswith("recipes") else "# @package _global_\n"
    file.write_text(begin + "train: {learning_rate: '${merge.tolerance}'}\n")
    words = ("recipe=mine", "method=dora") if where.startswith("recipes") else ("recipe=code", "method=mine")
    sources.forget()
    assert load(*words, "hardware=cpu", "merge.tolerance=2e-4").config.train.learning_rate == 2e-4
