"""Trainings of a random model: small enough for a second, with everything that makes resuming hard."""

import gc
import hashlib
import json
import multiprocessing
import os
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from random_models import Reports, chat_row, write_model, write_rows
from sft_runner.config.schema import Config, EarlyStopping, Hardware, Lora, Model, Quantization, Train
from sft_runner.events import EventWriter
from sft_runner.stages import train as stage
from sft_runner.stages.stage import Result

ROWS, HELD_OUT, STEPS, LONGEST = 37, 6, 20, 154
"""37 rows of at most 154 tokens, 8 in a step and 4 of full length in a pass: the last step of each epoch has 5 rows."""


def write_world(folder: Path) -> Path:
    """A base model, and prepared rows of very different lengths; what is held out has other answers."""
    rows = [chat_row("Say it " * (i % 5), "abc" * (i + 1), i + 1) for i in range(ROWS)]
    others = [chat_row("Say it " * (i % 5), "bca" * (i + 2), ROWS + i) for i in range(HELD_OUT)]
    write_model(folder / "base")
    write_rows(folder / "prepare", rows, others)
    return folder


def settings(world: Path, **changes: Any) -> Config:
    """A settled run; `changes` are such as `train__seed=1` or `train__early_stopping__patience=2`."""
    config = Config(
        model=Model(name=str(world / "base")),
        hardware=Hardware(per_device_train_batch_size=4, attn_implementation="sdpa"),
        lora=Lora(r=4, lora_alpha=8.0, lora_dropout=0.2),
        quantization=Quantization(bits="none"),
        train=Train(learning_rate=5e-3, num_train_epochs=4, batch_size=8, save_steps=3, logging_steps=2),
    )
    config.train.early_stopping = EarlyStopping()
    for key, value in changes.items():
        *path, name = key.split("__")
        part: Any = config
        for step in path:
            part = getattr(part, step)
        setattr(part, name, value)
    return config


def train(world: Path, folder: Path, reports: Reports | None = None, **changes: Any) -> Result:
    """Train to the end in this process."""
    folder.mkdir(exist_ok=True)
    report = Reports() if reports is None else reports
    return stage.Train().execute(settings(world, **changes), {"prepare": world / "prepare"}, folder, report)


def digest(folder: Path) -> str:
    """The hash of the trained weights."""
    (path,) = [path for name in ("adapter", "model") for path in (folder / name).glob("*.safetensors")]
    return hashlib.sha256(path.read_bytes()).hexdigest()


def written(folder: Path) -> Any:
    """What `training.json` says."""
    return json.loads((folder / "training.json").read_text())


def sealed(folder: Path) -> list[int]:
    """The steps of the whole checkpoints that a killed attempt left."""
    found = folder.glob("checkpoints/checkpoint-*/complete.json")
    return sorted(int(path.parent.name.removeprefix("checkpoint-")) for path in found)


def messages(reports: Reports) -> list[str]:
    """What was said in words."""
    return [event["message"] for event in reports if "message" in event]


def run_out(above: int, step: int = 0, unless: str = "") -> Any:
    """A `compute_loss` that has memory for passes of `above` positions from `step` on, for all with `unless`."""
    from sft_runner.training.trainer import Trainer

    real = Trainer.compute_loss

    def compute_loss(self: Any, model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
        mode = "none" if not self.args.activation_checkpointing else "full"
        if (self.args.activation_checkpointing_kwargs or {}).get("selective"):
            mode = "selective"
        fits = inputs["input_ids"].numel() <= above or (unless and mode == unless)
        if self.state.global_step >= step and not fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a capacity")
        return real(self, model, inputs, *more, **named)

    return compute_loss


# --- attempts that are killed ---------------------------------------------------------------------------------------


def processes() -> Any:
    """Processes that start at once, because the imports were made before they are forked."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sft_runner.training.figures", "trainings"])
    return context


def attempt(
    world: str, folder: str, die_at: str = "", out_of_memory: tuple[int, int] | None = None, **changes: Any
) -> None:
    """One attempt, in a process of its own, killed at `die_at`: `save:6`, `look:6`, `descent`, `written` or `end`."""
    gc.freeze()  # what was imported before the fork is not looked through at each collection
    torch.set_num_threads(1)
    moment, _, place = die_at.partition(":")
    if moment:
        _kill_at(moment, int(place or 0))
    if out_of_memory:
        from sft_runner.training.trainer import Trainer

        Trainer.compute_loss = run_out(*out_of_memory)  # type: ignore[method-assign]
    Path(folder).mkdir(exist_ok=True)
    report = EventWriter(Path(folder).with_suffix(".jsonl"))
    stage.Train().execute(settings(Path(world), **changes), {"prepare": Path(world) / "prepare"}, Path(folder), report)


def started(context: Any, world: Path, folder: Path, die_at: str = "", **changes: Any) -> BaseProcess:
    process: BaseProcess = context.Process(target=attempt, args=(str(world), str(folder), die_at), kwargs=changes)
    process.start()
    return process


def ended(process: BaseProcess, code: int) -> None:
    process.join(120)
    assert process.exitcode == code


def killed(context: Any, world: Path, folder: Path, die_at: str, **changes: Any) -> None:
    """An attempt that dies there."""
    ended(started(context, world, folder, die_at, **changes), -signal.SIGKILL)


def finish(context: Any, world: Path, folder: Path, goes_on_from: int | None, **changes: Any) -> None:
    """A second attempt that is not disturbed; checks where it went on from."""
    events = folder.with_suffix(".jsonl")
    events.unlink()
    ended(started(context, world, folder, **changes), 0)
    told = [json.loads(line) for line in events.read_text().splitlines()]
    found = [event["message"] for event in told if event.get("message", "").startswith("goes on from step")]
    assert found == ([] if goes_on_from is None else [f"goes on from step {goes_on_from}"])
    steps = [event["step"] for event in told if "step" in event]
    assert not steps or steps[0] == (goes_on_from or 0)


def _kill_at(moment: str, place: int) -> None:
    """Replace the function that is called at a moment by one that ends the process there."""
    from sft_runner.training import assembly, checkpoints
    from sft_runner.training.attempts import Attempts

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if moment == "save":
        seal = checkpoints.seal

        def sealing(checkpoint: Path) -> None:
            if checkpoint.name == f"checkpoint-{place}":
                die()
            seal(checkpoint)

        checkpoints.seal = sealing
    elif moment == "look":
        evaluate = assembly.Trainer.evaluate

        def evaluating(self: Any, *some: Any, **named: Any) -> Any:
            if self.state.global_step == place:
                self.look(self.model, self.state.global_step)
                die()
            return evaluate(self, *some, **named)

        assembly.Trainer.evaluate = evaluating  # type: ignore[method-assign]
    elif moment == "descent":
        write = Attempts.write

        def writing(self: Attempts) -> None:
            write(self)
            if len(self.descents) == place:
                die()

        Attempts.write = writing  # type: ignore[method-assign]
    elif moment == "written":
        settle = checkpoints.settle

        def settling(folder: Path) -> Any:
            found = settle(folder)
            if not folder.name.startswith("checkpoint"):
                die()
            return found

        checkpoints.settle = settling
    elif moment == "end":
        remove = stage.shutil.rmtree

        def removing(path: Path, **named: Any) -> None:
            remove(path, **named)
            if Path(path).name == "checkpoints":
                die()

        stage.shutil.rmtree = removing  # type: ignore[assignment]
