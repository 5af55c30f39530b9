"""Train the adapter with TRL's `SFTTrainer` on prepared rows.

Killed at any moment, the next attempt goes on from the newest whole checkpoint and ends with the same bits on the CPU.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import Config
from sft_runner.data.packing import packs_per_step
from sft_runner.data.prepared import PACKS, TRAIN
from sft_runner.disk import read_json, write_json
from sft_runner.errors import MachineError
from sft_runner.hardware import Fit, fit
from sft_runner.stages.stage import Report, Result
from sft_runner.training import checkpoints

if TYPE_CHECKING:
    from sft_runner.training.trainer import Trainer

CHECKPOINTS, ADAPTER, TRAINING = "checkpoints", "adapter", "training.json"


class Train:
    """A PEFT adapter in `adapter/`, and what happened step by step in `training.json`."""

    name = "train"
    version = 1
    reads: tuple[str, ...] = ("adapter", "quantization", "lora", "train", "hardware")
    inputs: tuple[str, ...] = ("prepare",)
    model = "weights"
    data = False
    gpu = True
    keeps: tuple[str, ...] = (CHECKPOINTS, ADAPTER, TRAINING)

    def execute(self, config: Config, inputs: Mapping[str, Path], folder: Path, report: Report) -> Result:
        """Train, or go on with what an earlier attempt left; an adapter that is already complete is kept."""
        metrics = _finished(folder)
        if metrics is None:
            shutil.rmtree(folder / ADAPTER, ignore_errors=True)
            _use_one_card(config, report)
            with _memory_explained(config):
                metrics = _train(config, inputs["prepare"], folder, report)
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        return Result(metrics, artifacts=[ADAPTER, TRAINING])


def _train(config: Config, prepared: Path, folder: Path, report: Report) -> dict[str, Any]:
    """The training itself; returns its metrics once the adapter is safely on the disk."""
    from sft_runner.model.packs import check_isolated
    from sft_runner.training.assembly import build
    from sft_runner.training.progress import peak_memory_gb

    batch, rows_per_step = _batch(config, prepared)
    newest = checkpoints.clean(folder / CHECKPOINTS)
    trainer, progress = build(config, batch, prepared, folder / CHECKPOINTS, report)
    if config.train.packing and newest is None:
        exact = config.hardware.dtype == "float32" and config.quantization.bits == "none"
        difference = check_isolated(trainer.model, trainer.train_dataset, trainer.data_collator, exact)
        report(message=f"packed documents are the same as alone, logits differ by at most {difference:.1e}")
    trainable, total = trainer.model.get_nb_trainable_parameters()
    dtypes = _dtypes(trainer)
    report(message=f"{trainable:,} of {total:,} parameters train, in {dtypes['adapter']} on a {dtypes['base']} base")
    if newest:
        report(message=f"goes on from step {newest[0]}")
    trainer.train(resume_from_checkpoint=str(newest[1]) if newest else None)
    state = trainer.state
    logged = [entry for entry in state.log_history if "loss" in entry]
    metrics = {
        "loss": logged[-1]["loss"],
        "steps": state.global_step,
        "epochs": state.epoch,
        "tokens": int(state.num_input_tokens_seen),
        "tokens_per_second": round(progress.tokens_per_second(state), 1),
        "seconds": round(progress.seconds(), 3),
        "trainable_parameters": trainable,
        "total_parameters": total,
        "peak_memory_gb": round(peak_memory_gb(), 3),
        "micro_batch": batch.micro_batch,
        "accumulation": batch.accumulation,
        "rows_per_step": rows_per_step,
        "dtypes": dtypes,
    }
    _write_adapter(trainer, config, folder / ADAPTER)
    files = checkpoints.settle(folder / ADAPTER)
    write_json(folder / TRAINING, {"metrics": metrics, "logged": logged, "files": files})
    return metrics


def _batch(config: Config, prepared: Path) -> tuple[Fit, float]:
    """How the rows or packs of a step are fed to the machine, and the mean number of rows in a step."""
    from sft_runner.model.rows import all_rows

    size, rows_per_step = config.train.batch_size, float(config.train.batch_size)
    if config.train.packing:
        rows, packs = (len(all_rows(prepared / name)) for name in (TRAIN, PACKS))
        size = packs_per_step(rows, packs, config.train.batch_size)
        rows_per_step = round(size * rows / packs, 2)
    return fit(size, config.hardware.per_device_train_batch_size or size), rows_per_step


def _finished(folder: Path) -> dict[str, Any] | None:
    """The metrics of an adapter that an earlier attempt completed before it was killed."""
    found = read_json(folder / TRAINING)
    if isinstance(found, dict) and checkpoints.fits(folder / ADAPTER, found.get("files", {})):
        return dict(found["metrics"])
    return None


def _write_adapter(trainer: "Trainer", config: Config, folder: Path) -> None:
    """PEFT's files, the same on every machine: the base by its name, nothing in random order."""
    trainer.model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink()  # PEFT's model card is a form that nobody filled in
    path = folder / "adapter_config.json"
    values = json.loads(path.read_text())
    values |= {"base_model_name_or_path": config.model.name, "revision": config.model.revision}
    if isinstance(values["target_modules"], list):
        values["target_modules"].sort()
    write_json(path, values)


def _dtypes(trainer: "Trainer") -> dict[str, str]:
    """Precision of what is trained and of the arithmetic that the frozen base runs in."""
    adapter = {str(weights.dtype) for weights in trainer.model.parameters() if weights.requires_grad}
    return {
        "base": str(trainer.model.get_base_model().dtype).removeprefix("torch."),
        "adapter": ", ".join(sorted(adapter)).replace("torch.", ""),
    }


def _use_one_card(config: Config, report: Report) -> None:
    """One process trains on one card; `SFTTrainer` refuses to see several."""
    import torch

    count = torch.cuda.device_count() if config.hardware.memory_gb > 0 else 0
    if count > 1:
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
        os.environ["CUDA_VISIBLE_DEVICES"] = first
        report(message=f"{count} cards are visible, card {first} is used")


@contextmanager
def _memory_explained(config: Config) -> Iterator[None]:
    """Say what to do when memory runs out, cheapest remedy for quality first."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise MachineError(f"out of memory while training: {str(error).splitlines()[0]}", _remedies(config)) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):  # the CPU allocator of torch has no error of its own
            raise
        raise MachineError(f"out of memory while training: {str(error).splitlines()[0]}", _remedies(config)) from error


def _remedies(config: Config) -> str:
    """What is left to try, in the order that costs least."""
    hardware, length = config.hardware, config.data.max_length
    options = {
        "quantization.bits=4": config.quantization.bits != "4",
        f"data.max_length={max(length // 2, 8)}": length > 8,
        "hardware.per_device_train_batch_size=1": hardware.per_device_train_batch_size != 1,
        "hardware.activation_checkpointing=full": hardware.activation_checkpointing != "full",
        "lora.r=4": (config.lora.r or 0) > 4,
    }
    return "try, one after the other: " + ", ".join(option for option, left in options.items() if left)
