"""What TRL is told: `SFTConfig` from the settled configuration."""

from pathlib import Path
from typing import Any

from trl.trainer.sft_config import SFTConfig

from sft_runner.config.schema import Config
from sft_runner.errors import UserError
from sft_runner.evaluation.names import lower_is_better
from sft_runner.hardware import Fit
from sft_runner.training.looks import eval_steps


def arguments(config: Config, batch: Fit, folder: Path, on_gpu: bool) -> SFTConfig:
    """What TRL is told. Raises `UserError` for values that it does not take."""
    train, hardware, between_looks = config.train, config.hardware, eval_steps(config.train)
    if hardware.dtype == "float16" and not on_gpu:
        raise UserError("hardware.dtype=float16 needs a card", "use float32 or bfloat16 on the CPU")
    values: dict[str, Any] = {
        "output_dir": str(folder),
        # what is learned
        "learning_rate": train.learning_rate,
        "num_train_epochs": train.num_train_epochs,
        "max_steps": train.max_steps,
        "lr_scheduler_type": train.lr_scheduler_type,
        "warmup_steps": train.warmup_steps,
        "weight_decay": train.weight_decay,
        "max_grad_norm": train.max_grad_norm,
        "optim": hardware.optim,
        "seed": train.seed,
        "data_seed": train.seed,
        # rows come from `prepare` with their labels, and the trainer packs each step: TRL would mix rows of all steps
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "max_length": None,
        "packing": False,
        "padding_free": False,
        "remove_unused_columns": False,
        # how it fits
        "per_device_train_batch_size": batch.micro_batch,
        "gradient_accumulation_steps": batch.accumulation,
        "activation_checkpointing": hardware.activation_checkpointing in ("selective", "full"),
        "activation_checkpointing_kwargs": _checkpointing(hardware.activation_checkpointing),
        "dataloader_num_workers": hardware.dataloader_num_workers,
        "dataloader_pin_memory": on_gpu,
        "bf16": hardware.dtype == "bfloat16",
        "fp16": hardware.dtype == "float16",
        "use_cpu": not on_gpu,
        # what is told and kept
        "logging_steps": train.logging_steps,
        "logging_nan_inf_filter": False,
        "include_num_input_tokens_seen": "non_padding",
        "save_steps": train.save_steps,
        "eval_strategy": "steps" if between_looks else "no",
        "eval_steps": between_looks or None,
        "metric_for_best_model": train.early_stopping.metric,  # a schedule such as reduce_lr_on_plateau follows it
        "greater_is_better": not lower_is_better(train.early_stopping.metric),
        "report_to": "none",
        "disable_tqdm": True,
    }
    try:
        return SFTConfig(**{**values, **train.extra})
    except (TypeError, ValueError) as error:
        raise UserError(f"train: TRL does not take these settings: {error}", "see train.* and train.extra") from error


def _checkpointing(mode: str) -> dict[str, Any] | None:
    """What TRL and torch are told about activation checkpointing; `selective` is a word of TRL's."""
    return {"none": None, "selective": {"selective": True}, "full": {"use_reentrant": False}}.get(mode)
