"""Training for real, on a random model: what it leaves, what it says, and that being killed changes no bit of it."""

import hashlib
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, MambaConfig, MambaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from random_models import Reports, chat_row, tokenizer, write_model, write_prepared, write_rows
from sft_runner.config.schema import Config, Hardware, Lora, Model, Quantization
from sft_runner.config.schema import Train as TrainConfig
from sft_runner.disk import read_json
from sft_runner.errors import MachineError, StageFailed, UnknownName, UserError
from sft_runner.events import EventWriter
from sft_runner.hardware import Fit
from sft_runner.model import loading
from sft_runner.model.rows import all_rows
from sft_runner.stages.stage import Result
from sft_runner.stages.train import Train
from sft_runner.training import checkpoints

pytestmark = [
    # PEFT 0.21 asks transformers 5.23 for a property that has a new name
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
ROWS, STEPS = 37, 20
"""37 rows, 8 in a step and 4 in a micro-batch: the last step of each of the 4 epochs has 5 rows."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model and prepared rows."""
    folder = tmp_path_factory.mktemp("world")
    write_model(folder / "base")
    write_prepared(folder / "prepare", held_out=2, train=ROWS)
    return folder


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Models this small are fastest on one core, and far faster when the others are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def settings(world: Path, **changes: Any) -> Config:
    """A settled run with everything that makes resuming hard; `changes` are such as `train__seed=1`."""
    config = Config(
        model=Model(name=str(world / "base")),
        hardware=Hardware(per_device_train_batch_size=4),
        lora=Lora(r=4, lora_alpha=8.0, lora_dropout=0.2),
        quantization=Quantization(bits="none"),
        train=TrainConfig(learning_rate=5e-3, num_train_epochs=4, batch_size=8, save_steps=3, logging_steps=2),
    )
    for key, value in changes.items():
        part, name = key.split("__")
        setattr(getattr(config, part), name, value)
    return config


def train(world: Path, folder: Path, reports: Reports | None = None, **changes: Any) -> Result:
    folder.mkdir(exist_ok=True)
    report = Reports() if reports is None else reports
    return Train().execute(settings(world, **changes), {"prepare": world / "prepare"}, folder, report)


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()


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
        "training.json",
    ]
    assert result.artifacts == ["adapter", "training.json"]
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
        ours = loading.load_tuned(settings(world), whole[0] / "adapter")(ids).logits
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


def test_activation_checkpointing_does_not_change_what_is_learned(
    world: Path, whole: tuple[Path, Result, Reports], tmp_path: Path
) -> None:
    train(world, tmp_path / "train", hardware__activation_checkpointing="full")
    assert digest(tmp_path / "train") == digest(whole[0])


# --- killed ---------------------------------------------------------------------------------------------------------


def attempt(world: str, folder: str, die_at: str = "", **changes: Any) -> None:
    """One attempt, in a process of its own; `die_at` is `save:N` to be killed while checkpoint N is sealed."""
    torch.set_num_threads(1)
    if die_at.startswith("save:"):
        seal = checkpoints.seal

        def killed(checkpoint: Path) -> None:
            if checkpoint.name == f"checkpoint-{die_at.removeprefix('save:')}":
                os.kill(os.getpid(), signal.SIGKILL)
            seal(checkpoint)

        checkpoints.seal = killed
    if die_at == "end":
        from sft_runner.stages import train as stage

        remove = stage.shutil.rmtree

        def then_killed(path: Path, **named: Any) -> None:
            remove(path, **named)
            if Path(path).name == "checkpoints":
                os.kill(os.getpid(), signal.SIGKILL)

        stage.shutil.rmtree = then_killed  # type: ignore[assignment]
    Path(folder).mkdir(exist_ok=True)
    report = EventWriter(Path(folder).with_suffix(".jsonl"))
    Train().execute(settings(Path(world), **changes), {"prepare": Path(world) / "prepare"}, Path(folder), report)


@pytest.fixture(scope="module")
def processes() -> Any:
    """Processes that start at once, because the imports were made before they are forked."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sft_runner.stages.trainer", "random_models"])
    return context


def started(processes: Any, world: Path, folder: Path, die_at: str = "", **changes: Any) -> BaseProcess:
    process: BaseProcess = processes.Process(target=attempt, args=(str(world), str(folder), die_at), kwargs=changes)
    process.start()
    return process


def ended(process: BaseProcess, code: int) -> None:
    process.join(120)
    assert process.exitcode == code


def finish(processes: Any, world: Path, folder: Path, goes_on_from: int | None, **changes: Any) -> None:
    """A second attempt that is not disturbed; checks where it went on from."""
    events = folder.with_suffix(".jsonl")
    events.unlink()
    ended(started(processes, world, folder, **changes), 0)
    told = [json.loads(line) for line in events.read_text().splitlines()]
    messages = [event["message"] for event in told if "message" in event and "goes on" in event["message"]]
    assert messages == ([] if goes_on_from is None else [f"goes on from step {goes_on_from}"])
    steps = [event["step"] for event in told if "step" in event]
    assert not steps or steps[0] == (goes_on_from or 0)


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
    ended(started(processes, world, folder, f"save:{step}"), -signal.SIGKILL)
    assert (folder / "checkpoints" / f"checkpoint-{step}").is_dir()
    finish(processes, world, folder, goes_on_from)
    assert digest(folder) == digest(whole[0])


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncated", "changed"])
def test_a_damaged_checkpoint_is_not_resumed_from(
    processes: Any, world: Path, whole: tuple[Path, Result, Reports], tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "train"
    ended(started(processes, world, folder, "save:15"), -signal.SIGKILL)
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
    ended(started(processes, world, folder, "end"), -signal.SIGKILL)
    assert not (folder / "checkpoints").exists()
    finish(processes, world, folder, None)
    assert not folder.with_suffix(".jsonl").read_text()  # nothing was trained again
    assert digest(folder) == digest(whole[0])
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"half")
    finish(processes, world, folder, None)
    assert folder.with_suffix(".jsonl").read_text()
    assert digest(folder) == digest(whole[0])


# --- packed ---------------------------------------------------------------------------------------------------------

PACKS, PACKED_STEPS = 14, 20
"""14 packs, 3 in a step, which hold 7.93 of the 37 rows: 5 steps for each of the 4 epochs."""


@pytest.fixture(scope="module")
def packed(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result, Reports]:
    """A training on packs that nobody disturbed."""
    folder, reports = tmp_path_factory.mktemp("packed"), Reports()
    return folder, train(world, folder, reports, train__packing=True), reports


def test_a_step_takes_as_many_packs_as_hold_its_rows(world: Path, packed: tuple[Path, Result, Reports]) -> None:
    metrics = packed[1].metrics
    assert len(all_rows(world / "prepare" / "packs.arrow")) == PACKS
    assert (metrics["micro_batch"], metrics["accumulation"]) == (3, 1)
    assert metrics["rows_per_step"] == 7.93
    assert (metrics["steps"], metrics["epochs"]) == (PACKED_STEPS, 4)
    logged = read_json(packed[0] / "training.json")["logged"]
    assert metrics["loss"] < logged[0]["loss"] - 0.5
    assert not [entry for entry in logged if "num_tokens" in entry]


def test_tokens_of_packs_are_those_of_the_rows(
    whole: tuple[Path, Result, Reports], packed: tuple[Path, Result, Reports]
) -> None:
    assert packed[1].metrics["tokens"] == whole[1].metrics["tokens"]


def test_the_model_is_checked_once_before_it_learns_from_packs(packed: tuple[Path, Result, Reports]) -> None:
    told = [event["message"] for event in packed[2] if "message" in event]
    assert len([message for message in told if "packed documents are the same as alone" in message]) == 1


def test_a_model_that_mixes_documents_is_not_trained_on_packs(world: Path, tmp_path: Path) -> None:
    shape = {"hidden_size": 32, "state_size": 4, "num_hidden_layers": 2, "initializer_range": 0.3}
    MambaForCausalLM(MambaConfig(vocab_size=260, **shape)).save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    model: dict[str, Any] = {"model__name": str(tmp_path / "base"), "hardware__attn_implementation": "eager"}
    model |= {"lora__target_modules": ["in_proj", "x_proj"]}
    with pytest.raises(StageFailed, match=r"train\.packing: this model does not keep") as raised:
        train(world, tmp_path / "train", train__packing=True, **model)
    assert raised.value.hint == "set train.packing=false"
    assert not (tmp_path / "train" / "adapter").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("step", "goes_on_from"), [(6, 3), (12, 9)])
def test_packed_and_killed(
    processes: Any, world: Path, packed: tuple[Path, Result, Reports], tmp_path: Path, step: int, goes_on_from: int
) -> None:
    folder = tmp_path / "train"
    ended(started(processes, world, folder, f"save:{step}", train__packing=True), -signal.SIGKILL)
    finish(processes, world, folder, goes_on_from, train__packing=True)
    assert digest(folder) == digest(packed[0])
    assert read_json(folder / "training.json")["metrics"]["tokens"] == packed[1].metrics["tokens"]


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

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=3000, num_key_value_heads=2, **shape))
    model.save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    write_rows(tmp_path / "prepare", [chat_row("why " * (i % 7), "so " * (1 + i % 3)) for i in range(24)])
    losses = {}
    for name, most in (("plain", trainer.MOST_LOGITS), ("trl", 0)):
        monkeypatch.setattr(trainer, "MOST_LOGITS", most)
        train(tmp_path, tmp_path / name, train__max_steps=6, train__logging_steps=1)
        logged = read_json(tmp_path / name / "training.json")["logged"]
        assert ("entropy" in logged[0]) is (name == "trl")  # TRL's own loss measures it too
        losses[name] = [entry["loss"] for entry in logged]
    assert losses["plain"] == pytest.approx(losses["trl"], rel=1e-4)


# --- what can go wrong ----------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_a_number_stops(world: Path, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"is (nan|inf) at step \d+ of 20") as raised:
        train(world, tmp_path / "train", train__learning_rate=1e30, train__max_grad_norm=0.0, train__logging_steps=1)
    assert "lower train.learning_rate" in raised.value.hint
    newest = checkpoints.latest(tmp_path / "train" / "checkpoints")
    assert newest is None or newest[0] < STEPS  # what is not a number is never sealed


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


def test_out_of_memory_names_what_is_left_to_try(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sft_runner.training import trainer

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    monkeypatch.setattr(trainer.Trainer, "training_step", full)
    with pytest.raises(MachineError, match="CUDA out of memory") as raised:
        train(world, tmp_path / "train", hardware__activation_checkpointing="full", data__max_length=512)
    assert raised.value.hint == (
        "try, one after the other: quantization.bits=4, data.max_length=256, hardware.per_device_train_batch_size=1"
    )
