"""Training for real, on a random model: what it leaves, what it says, and that being killed changes no bit of it."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from random_models import Reports, chat_row, tokenizer, write_rows
from sft_runner.disk import read_json
from sft_runner.errors import UnknownName, UserError
from sft_runner.hardware import Fit
from sft_runner.model import loading
from sft_runner.model.rows import all_rows
from sft_runner.stages.stage import Result
from sft_runner.training import checkpoints
from trainings import STEPS, digest, ended, finish, killed, settings, started, train
from trainings import processes as forked

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # PEFT 0.21 asks transformers 5.23 for a property that has a new name
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.fixture(scope="module")
def whole(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result, Reports]:
    """A training that nobody disturbed."""
    folder, reports = tmp_path_factory.mktemp("whole"), Reports()
    return folder, train(world, folder, reports), reports


def test_what_it_leaves(world: Path, whole: tuple[Path, Result, Reports]) -> None:
    folder, result, _ = whole
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "logits.safetensors",
        "loss.png",
        "loss.svg",
        "report.html",
        "training.json",
    ]
    assert sorted(result.artifacts) == ["adapter", "loss.png", "loss.svg", "report.html", "training.json"]
    assert result.notes == []
    written = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == str(world / "base")
    assert written["target_modules"] == sorted(written["target_modules"])
    assert {name.rpartition(".")[2] for name in written["target_modules"]} == LINEAR
    assert (written["r"], written["lora_alpha"], written["task_type"]) == (4, 8, "CAUSAL_LM")
    assert {weights.dtype for weights in load_file(folder / "adapter" / "adapter_model.safetensors").values()} == {
        torch.float32
    }


def test_what_it_measured(whole: tuple[Path, Result, Reports]) -> None:
    folder, result, _ = whole
    metrics = result.metrics
    assert (metrics["steps"], metrics["epochs"]) == (STEPS, 4)
    assert (metrics["micro_batch"], metrics["accumulation"]) == (4, 2)
    assert (metrics["stopped_by"], metrics["kept_step"], metrics["skipped_steps"]) == ("steps", STEPS, 0)
    assert "mfu" not in metrics  # there is no card to be utilised
    assert metrics["dtypes"] == {"base": "float32", "adapter": "float32"}
    assert 0 < metrics["trainable_parameters"] < metrics["total_parameters"]
    assert metrics["tokens_per_second"] == pytest.approx(metrics["tokens"] / metrics["seconds"], rel=0.01)
    assert 0.1 < metrics["peak_memory_gb"] < 20
    logged = read_json(folder / "training.json")["logged"]
    assert logged[-1]["loss"] == metrics["loss"] < logged[0]["loss"] - 0.5
    assert [entry["step"] for entry in logged] == [2, 3, 4, 6, 8, 9, 10, 12, 14, 15, 16, 18, 20]


def test_tokens_are_those_of_the_rows(world: Path, whole: tuple[Path, Result, Reports]) -> None:
    rows = all_rows(world / "prepare" / "train.arrow")
    assert whole[1].metrics["tokens"] == 4 * sum(len(ids) for ids in rows["input_ids"])
    assert 0.8 < whole[1].metrics["real_tokens"] < 1  # rows of similar length share a pass


def test_what_it_says(whole: tuple[Path, Result, Reports]) -> None:
    reports = whole[2]
    assert any("in float32 on a float32 base" in event.get("message", "") for event in reports)
    steps = [event for event in reports if "loss" in event]
    assert set(steps[-1]) >= {"step", "steps", "epoch", "learning_rate", "grad_norm", "tokens_per_second"}
    assert set(steps[-1]) >= {"memory_gb", "seconds_left"}
    assert (steps[-1]["step"], steps[-1]["steps"], steps[-1]["seconds_left"]) == (STEPS, STEPS, 0)


def test_peft_loads_it_with_a_base_of_ones_choice(world: Path, whole: tuple[Path, Result, Reports]) -> None:
    base = AutoModelForCausalLM.from_pretrained(world / "base").eval()
    ids = torch.arange(40).reshape(1, 40)
    with torch.inference_mode():
        before = base(ids).logits
        theirs = PeftModel.from_pretrained(base, whole[0] / "adapter").eval()(ids).logits
        ours = loading.load_tuned(settings(world), whole[0])(ids).logits
    assert (theirs - before).abs().max() > 0.5
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_the_same_again_and_another_seed(world: Path, whole: tuple[Path, Result, Reports], tmp_path: Path) -> None:
    train(world, tmp_path / "same")
    train(world, tmp_path / "seed", train__seed=7)
    assert digest(tmp_path / "same") == digest(whole[0])
    assert digest(tmp_path / "seed") != digest(whole[0])


def test_the_micro_batch_does_not_change_what_is_learned(world: Path, tmp_path: Path) -> None:
    for rows in (8, 2):
        train(world, tmp_path / str(rows), lora__lora_dropout=0.0, hardware__per_device_train_batch_size=rows)
    one, other = (load_file(tmp_path / rows / "adapter" / "adapter_model.safetensors") for rows in ("8", "2"))
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-4)


@pytest.mark.parametrize("mode", ["selective", "full"])
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")  # TRL's selective one
def test_activation_checkpointing_does_not_change_what_is_learned(
    world: Path, whole: tuple[Path, Result, Reports], tmp_path: Path, mode: str
) -> None:
    result = train(world, tmp_path / "train", hardware__activation_checkpointing=mode)
    assert digest(tmp_path / "train") == digest(whole[0])
    assert result.metrics["activation_checkpointing"] == mode


# --- killed ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def processes() -> Any:
    """Where attempts are forked from."""
    return forked()


@pytest.mark.slow
def test_killed_in_the_middle(processes: Any, world: Path, whole: tuple[Path, Result, Reports], tmp_path: Path) -> None:
    folder = tmp_path / "train"
    process = started(processes, world, folder)
    deadline = time.monotonic() + 120
    while checkpoints.latest(folder / "checkpoints") is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    ended(process, -signal.SIGKILL)
    newest = checkpoints.latest(folder / "checkpoints")
    assert newest is not None
    finish(processes, world, folder, newest[0])
    assert digest(folder) == digest(whole[0])
    one, other = (read_json(path / "training.json") for path in (folder, whole[0]))
    for entry, expected in zip(one["logged"], other["logged"], strict=True):
        for name in ("step", "epoch", "loss", "learning_rate", "grad_norm", "num_input_tokens_seen"):
            assert entry[name] == expected[name]
    assert one["metrics"]["tokens"] == other["metrics"]["tokens"]


@pytest.mark.slow
@pytest.mark.parametrize(("step", "goes_on_from"), [(3, None), (9, 6), (15, 12)])
def test_killed_while_a_checkpoint_is_written(
    processes: Any,
    world: Path,
    whole: tuple[Path, Result, Reports],
    tmp_path: Path,
    step: int,
    goes_on_from: int | None,
) -> None:
    """Steps 5, 10, 15 end an epoch, so 15 resumes across one and 9 within one."""
    folder = tmp_path / "train"
    killed(processes, world, folder, f"save:{step}")
    assert (folder / "checkpoints" / f"checkpoint-{step}").is_dir()
    finish(processes, world, folder, goes_on_from)
    assert digest(folder) == digest(whole[0])


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncated", "changed"])
def test_a_damaged_checkpoint_is_not_resumed_from(
    processes: Any, world: Path, whole: tuple[Path, Result, Reports], tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "train"
    killed(processes, world, folder, "save:15")
    victim = folder / "checkpoints" / "checkpoint-12" / "optimizer.pt"
    content = victim.read_bytes()
    victim.write_bytes(content[:100] if damage == "truncated" else bytes(len(content)))
    finish(processes, world, folder, 9)
    assert digest(folder) == digest(whole[0])


@pytest.mark.slow
def test_killed_when_all_was_done(
    processes: Any, world: Path, whole: tuple[Path, Result, Reports], tmp_path: Path
) -> None:
    folder = tmp_path / "train"
    killed(processes, world, folder, "end")
    assert not (folder / "checkpoints").exists()
    finish(processes, world, folder, None)
    assert not folder.with_suffix(".jsonl").read_text()  # nothing was trained again
    assert digest(folder) == digest(whole[0])
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"half")
    finish(processes, world, folder, None)
    assert folder.with_suffix(".jsonl").read_text()
    assert digest(folder) == digest(whole[0])


# --- padded ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def padded(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result, Reports]:
    """A training without packing that nobody disturbed."""
    folder, reports = tmp_path_factory.mktemp("padded"), Reports()
    return folder, train(world, folder, reports, train__packing=False), reports


def test_packing_changes_how_rows_are_fed_and_not_what_is_learned(
    world: Path, whole: tuple[Path, Result, Reports], padded: tuple[Path, Result, Reports], tmp_path: Path
) -> None:
    metrics = padded[1].metrics
    assert (metrics["steps"], metrics["epochs"], metrics["tokens"]) == (STEPS, 4, whole[1].metrics["tokens"])
    assert 0.5 < metrics["real_tokens"] < whole[1].metrics["real_tokens"] - 0.1  # there is more padding
    for packing in (False, True):
        train(world, tmp_path / str(packing), train__packing=packing, lora__lora_dropout=0.0)
    one, other = (read_json(tmp_path / name / "training.json")["logged"] for name in ("True", "False"))
    assert [entry["loss"] for entry in one] == pytest.approx([entry["loss"] for entry in other], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("step", "goes_on_from"), [(6, 3), (12, 9)])
def test_padded_and_killed(
    processes: Any, world: Path, padded: tuple[Path, Result, Reports], tmp_path: Path, step: int, goes_on_from: int
) -> None:
    folder = tmp_path / "train"
    killed(processes, world, folder, f"save:{step}", train__packing=False)
    finish(processes, world, folder, goes_on_from, train__packing=False)
    assert digest(folder) == digest(padded[0])
    assert read_json(folder / "training.json")["metrics"]["tokens"] == padded[1].metrics["tokens"]


# --- methods --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "base"),
    [
        ({"lora__use_dora": True}, "float32"),
        ({"lora__use_rslora": True}, "float32"),
        ({"hardware__dtype": "bfloat16"}, "bfloat16"),
        ({"quantization__bits": "4"}, "float32"),
        ({"quantization__bits": "4", "lora__use_dora": True, "hardware__dtype": "bfloat16"}, "bfloat16"),
        ({"quantization__bits": "8"}, "float32"),
        ({"quantization__bits": "8", "hardware__activation_checkpointing": "full"}, "float32"),
    ],
    ids=["dora", "rslora", "bfloat16", "qlora", "qdora-bfloat16", "8-bit", "8-bit-checkpointing"],
)
@pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast from:UserWarning")  # LLM.int8 computes so
def test_every_method_learns(world: Path, tmp_path: Path, changes: dict[str, Any], base: str) -> None:
    result = train(world, tmp_path / "train", train__max_steps=12, **changes)
    logged = read_json(tmp_path / "train" / "training.json")["logged"]
    assert result.metrics["loss"] < logged[0]["loss"] - 0.3
    assert result.metrics["dtypes"] == {"base": base, "adapter": "float32"}
    weights = load_file(tmp_path / "train" / "adapter" / "adapter_model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_the_plain_loss_is_trls(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a vocabulary that is worth the shortcut, with micro-batches of different lengths."""
    from sft_runner.training import trainer
    from sft_runner.training.loss import summed_loss

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=3000, num_key_value_heads=2, **shape))
    model.save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    write_rows(tmp_path / "prepare", [chat_row("why " * (i % 7), "so " * (1 + i % 3)) for i in range(24)])
    losses: dict[str, list[float]] = {}
    calls: dict[str, int] = {}

    def counted(*arguments: Any) -> torch.Tensor:
        calls[name] = calls.get(name, 0) + 1
        return summed_loss(*arguments)

    monkeypatch.setattr(trainer, "summed_loss", counted)
    for name, most in (("plain", trainer.MOST_LOGITS), ("trl", 0)):
        monkeypatch.setattr(trainer, "MOST_LOGITS", most)
        train(tmp_path, tmp_path / name, train__max_steps=6, train__logging_steps=1)
        logged = read_json(tmp_path / name / "training.json")["logged"]
        losses[name] = [entry["loss"] for entry in logged]
    assert calls.keys() == {"plain"}
    assert losses["plain"] == pytest.approx(losses["trl"], rel=1e-4)


# --- what can go wrong ----------------------------------------------------------------------------------------------


def test_modules_that_do_not_exist(world: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"lora\.target_modules: module 'q_porj'") as raised:
        train(world, tmp_path / "train", lora__target_modules=["k_proj", "q_porj"])
    assert raised.value.hint == "did you mean 'q_proj'?"


def test_the_output_head(world: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lm_head"):
        train(world, tmp_path / "train", lora__target_modules=["q_proj", "lm_head"])


def test_chosen_modules(world: Path, tmp_path: Path) -> None:
    train(world, tmp_path / "train", lora__target_modules=["self_attn.v_proj", "q_proj"], train__max_steps=1)
    names = load_file(tmp_path / "train" / "adapter" / "adapter_model.safetensors")
    assert {name.split(".")[-3] for name in names} == {"q_proj", "v_proj"}


def test_extra_fields_reach_trl_and_come_last(world: Path) -> None:
    from sft_runner.training.arguments import arguments

    config = settings(world, train__extra={"adam_beta2": 0.9, "lr_scheduler_kwargs": {"num_cycles": 2}})
    made = arguments(config, Fit(4, 2), Path("checkpoints"), on_gpu=False)
    assert (made.adam_beta2, made.lr_scheduler_kwargs) == (0.9, {"num_cycles": 2})
    assert (made.bf16, made.fp16, made.use_cpu, made.report_to) == (False, False, True, [])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train__lr_scheduler_type": "cosinus"}, "cosinus"),
        ({"hardware__optim": "adamv"}, "adamv"),
        ({"train__extra": {"adam_beta3": 1}}, "adam_beta3"),
        ({"hardware__dtype": "float16"}, "needs a card"),
    ],
)
def test_settings_that_trl_does_not_take(world: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        train(world, tmp_path / "train", **changes)
