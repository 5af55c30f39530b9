"""One training as three trainers do it: this project's train stage, TRL's `SFTTrainer`, and LLaMA-Factory.

All get the same base, the same token ids and labels (LLaMA-Factory through its `tokenized_path`, so that no template
of its own stands between), the same adapter, schedule and seed, and keep everything in memory (no checkpointing of
activations). Each runs in a process of its own, and `clock.watch` times `Trainer.train` in all of them.
"""

import json
import multiprocessing
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import clock

ALPHA = 2
"""LoRA's alpha as a multiple of its rank."""


@dataclass(frozen=True)
class Task:
    """What is trained."""

    base: Path
    """Folder of the model."""
    prepared: Path
    """What `prepare` made of the rows: those of `train.arrow` are learned."""
    work: Path
    """Folder for what the trainers write."""
    length: int = 2048
    """`data.max_length`, in tokens."""
    epochs: int = 1
    """Passes over the rows."""
    batch_size: int = 16
    """Rows of a step."""
    micro_batch: int = 16
    """Rows of a forward and backward pass."""
    learning_rate: float = 2e-4
    """Peak rate; cosine, no warm-up, no decay of weights."""
    rank: int = 8
    """LoRA's rank, on all linear layers; alpha is twice as much."""
    seed: int = 42
    """Of row order and adapter start."""
    packing: bool = False
    """`train.packing` for this project; the others pad."""
    dtype: str = "float32"
    """Of the frozen base and the arithmetic."""


@dataclass(frozen=True)
class Measured:
    """What a training took, and where it ended."""

    seconds: float
    """Wall time of `Trainer.train`."""
    cpu_seconds: float
    """CPU time of `Trainer.train`, all threads."""
    around: float
    """CPU time of what the project does around `Trainer.train` (the train stage less the training); others: 0."""
    memory: int
    """Peak in bytes: of the card where there is one, else of the whole process."""
    loss: float
    """Mean training loss of all steps."""
    adapter: Path
    """Folder with what was learned."""


def sft_runner(task: Task) -> Measured:
    """This project's train stage."""
    return _measured(*_apart(_stage, task), task.work / "sft_runner" / "adapter")


def trl(task: Task) -> Measured:
    """Bare `SFTTrainer`."""
    return _measured(*_apart(_sft_trainer, task), task.work / "trl")


def llamafactory(task: Task, command: Path) -> Measured:
    """LLaMA-Factory as its command runs it; `command` is its `llamafactory-cli`."""
    from datasets import Dataset, DatasetDict  # type: ignore[import-untyped]

    work = task.work / "llamafactory"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    rows = _rows(task)
    ids = rows["input_ids"]
    columns = {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids], "labels": rows["labels"]}
    DatasetDict({"train": Dataset.from_dict(columns)}).save_to_disk(work / "tokens")
    settings = {
        "model_name_or_path": str(task.base), "template": "empty", "stage": "sft", "do_train": True,
        "finetuning_type": "lora", "lora_rank": task.rank, "lora_alpha": ALPHA * task.rank, "lora_target": "all",
        "lora_dropout": 0.0, "tokenized_path": str(work / "tokens"), "dataset": "tokens",
        "output_dir": str(work / "out"), "overwrite_output_dir": True, "save_strategy": "no", "report_to": "none",
        "per_device_train_batch_size": task.micro_batch,
        "gradient_accumulation_steps": task.batch_size // task.micro_batch, "learning_rate": task.learning_rate,
        "num_train_epochs": task.epochs, "lr_scheduler_type": "cosine", "warmup_steps": 0, "weight_decay": 0.0,
        "logging_steps": 10, "disable_tqdm": True, "seed": task.seed, "data_seed": task.seed,
        "use_cpu": not on_card(), "fp16": task.dtype == "float16", "bf16": task.dtype == "bfloat16",
        "packing": False, "disable_gradient_checkpointing": True,
    }  # fmt: skip
    (work / "train.yaml").write_text(json.dumps(settings))  # JSON is YAML
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "DISABLE_VERSION_CHECK": "1"}
    script = [str(command.parent / "python"), str(Path(clock.__file__)), str(work / "measured.json")]
    process = subprocess.Popen(
        [*script, "train", str(work / "train.yaml")], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    told = process.stdout.read() if process.stdout else b""
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"LLaMA-Factory failed:\n{told.decode()[-2000:]}")
    return _measured(work / "measured.json", 0.0, used.ru_maxrss * 1024, work / "out")


def on_card() -> bool:
    """Whether training uses a card."""
    import torch

    return torch.cuda.is_available()


def quiet() -> None:
    """No progress bars and warnings of the libraries between the lines of a table."""
    import warnings

    from datasets import disable_progress_bars
    from transformers.utils import logging

    disable_progress_bars()
    logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)


def _stage(task: Task, measured: Path) -> float:
    """Run the train stage; returns the CPU seconds of the stage that were not spent training."""
    # the worker has imported all of these before a stage begins
    from sft_runner import load
    from sft_runner.stages.train import Train
    from sft_runner.training import assembly  # noqa: F401

    config = load(
        f"hardware={'auto' if on_card() else 'cpu'}", f"hardware.dtype={task.dtype}", f"model.name={task.base}",
        f"hardware.per_device_train_batch_size={task.micro_batch}",
        "hardware.activation_checkpointing=none", "quantization.bits=none", f"data.max_length={task.length}",
        f"train.batch_size={task.batch_size}", f"train.learning_rate={task.learning_rate}",
        f"train.num_train_epochs={task.epochs}", "train.warmup_steps=0", f"train.seed={task.seed}",
        f"train.packing={str(task.packing).lower()}", f"lora.r={task.rank}", f"lora.lora_alpha={ALPHA * task.rank}",
        "lora.target_modules=[all-linear]", f"data.path={task.prepared}",
    ).config  # fmt: skip
    folder = _emptied(task.work / "sft_runner")
    began = time.process_time()
    Train().execute(config, {"prepare": task.prepared}, folder, lambda **_: None)
    return time.process_time() - began - float(json.loads(measured.read_text())["cpu_seconds"])


def _sft_trainer(task: Task, measured: Path) -> float:
    """Run bare `SFTTrainer` on the rows; its own default settings but for what a `Task` says."""
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    folder = _emptied(task.work / "trl")
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(
            task.base, dtype=getattr(torch, task.dtype), device_map="cuda:0" if on_card() else "cpu"
        ),
        SFTConfig(
            str(folder), per_device_train_batch_size=task.micro_batch,
            gradient_accumulation_steps=task.batch_size // task.micro_batch, learning_rate=task.learning_rate,
            num_train_epochs=task.epochs, lr_scheduler_type="cosine", warmup_steps=0, logging_steps=10,
            report_to="none", save_strategy="no", use_cpu=not on_card(), bf16=task.dtype == "bfloat16",
            fp16=task.dtype == "float16", gradient_checkpointing=False, max_length=None, seed=task.seed,
            data_seed=task.seed, disable_tqdm=True, dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=_rows(task),
        processing_class=AutoTokenizer.from_pretrained(task.base),
        peft_config=LoraConfig(
            r=task.rank, lora_alpha=ALPHA * task.rank, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )  # fmt: skip
    trainer.train()
    trainer.save_model()
    return 0.0


def _rows(task: Task) -> Any:
    from sft_runner.data.prepared import TRAIN
    from sft_runner.model.rows import all_rows

    return all_rows(task.prepared / TRAIN).select_columns(["input_ids", "labels"])


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _measured(file: Path, around: float, memory: int, adapter: Path) -> Measured:
    found = json.loads(file.read_text())
    return Measured(
        seconds=found["seconds"],
        cpu_seconds=found["cpu_seconds"],
        around=around,
        memory=found["device_memory"] or memory,
        loss=found["loss"],
        adapter=adapter,
    )


def _apart(function: Callable[[Task, Path], float], task: Task) -> tuple[Path, float, int]:
    """Run in a process of its own; returns the file of `clock.watch`, the function's result and the peak of memory."""
    task.work.mkdir(parents=True, exist_ok=True)
    measured, told = task.work / "measured.json", task.work / "told.txt"
    measured.unlink(missing_ok=True)
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(False)
    process = context.Process(target=_child, args=(send, function, task, measured, told))
    process.start()
    send.close()
    try:
        around, memory = receive.recv()
    except EOFError:
        raise SystemExit(f"{function.__name__} failed:\n{told.read_text()[-2000:]}") from None
    finally:
        process.join()
    return measured, around, memory


def _child(send: Any, function: Callable[[Task, Path], float], task: Task, measured: Path, told: Path) -> None:
    with open(told, "wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    clock.watch(measured)
    around = function(task, measured)
    send.send((around, clock.peak_memory()))
