"""TRL's `SFTTrainer` as the train stage uses it. Importing this takes seconds; only a stage at work does it."""

import inspect
import math
import resource
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils.generic import is_flash_attention_requested
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from sft_runner.config.schema import Config
from sft_runner.data.prepared import TRAIN
from sft_runner.errors import StageFailed, UserError
from sft_runner.hardware import GB, Fit
from sft_runner.model.adapters import lora_config
from sft_runner.model.files import require
from sft_runner.model.loading import device, load_base, load_tokenizer
from sft_runner.model.packs import PackCollator, count_tokens, packs
from sft_runner.model.rows import all_rows
from sft_runner.stages import checkpoints
from sft_runner.stages.stage import Report

REPORT_SECONDS = 1.0
"""Progress is told at most this often between two logged steps."""
MOST_LOGITS = 2**28
"""Logits held at once by the plain loss, 1 GiB in float32; more go through TRL's loss, which never holds them all."""


class Trainer(SFTTrainer):
    """`SFTTrainer` with float32 adapters, checkpoints without ballast, and a loss that is fast on the CPU."""

    model: Any
    args: SFTConfig
    data_collator: Any

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        # TRL rounds the adapter of a quantized base to bfloat16, where small updates of the optimizer are lost.
        for weights in self.model.parameters():
            if weights.requires_grad:
                weights.data = weights.data.float()
        self.processing_class = None  # the rows are tokens already; without it no checkpoint carries a tokenizer
        self.plain_loss = (
            self.args.device.type == "cpu"
            and self.args.loss_type == "nll"
            and self.label_smoother is None
            and not self.aux_loss_enabled
            and "logits_to_keep" in inspect.signature(type(self.model.get_base_model()).forward).parameters
        )

    def create_model_card(self, *arguments: Any, **named: Any) -> None:
        """Checkpoints are read by nobody but the next attempt."""

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """TRL's; without its count of tokens, which is wrong for packs and for others the same as transformers'."""
        self._metrics["train"].pop("num_tokens", None)
        super().log(logs, start_time)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's loss; on the CPU, where TRL has no fused kernel, the same number by plain cross-entropy."""
        labels = inputs["labels"][:, 1:]
        positions = (labels != -100).any(dim=0).nonzero().flatten() if self.plain_loss else labels.new_empty(0)
        logits = len(labels) * len(positions) * model.config.get_text_config().vocab_size
        if return_outputs or not 0 < logits <= MOST_LOGITS:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[no-untyped-call]
        rows = {name: value for name, value in inputs.items() if name != "labels"}
        found = model(**rows, logits_to_keep=positions, use_cache=False).logits
        wanted = labels[:, positions]
        loss = torch.nn.functional.cross_entropy(found.flatten(0, 1).float(), wanted.flatten(), reduction="sum")
        return loss / (num_items_in_batch if num_items_in_batch is not None else (wanted != -100).sum())

    def _track_num_input_tokens(self, inputs: dict[str, Any]) -> None:
        """Count without padding. For packs transformers cannot, as they have no attention mask."""
        if "attention_mask" in inputs:
            super()._track_num_input_tokens(inputs)  # type: ignore[no-untyped-call]
        else:
            self.state.num_input_tokens_seen += count_tokens(inputs["position_ids"])


class Progress(TrainerCallback):
    """Tells how training goes, seals each checkpoint, and stops where the loss is no longer a number."""

    def __init__(self, report: Report, folder: Path, keep: int) -> None:
        self.report, self.folder, self.keep = report, folder, keep
        self.began = self.told = time.perf_counter()
        self.first_step = self.first_token = 0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.began = self.told = time.perf_counter()
        self.first_step, self.first_token = state.global_step, int(state.num_input_tokens_seen)
        self.report(step=state.global_step, steps=state.max_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        last = state.global_step >= state.max_steps
        if last:
            control.should_save = False  # the adapter itself follows at once
        if last or control.should_save:
            control.should_log = True  # so that a resumed run logs over the same steps as an uninterrupted one
        if not control.should_log and time.perf_counter() - self.told > REPORT_SECONDS:
            self._tell(state)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        logs: dict[str, Any] = more["logs"]
        if "loss" not in logs:
            return  # the summary at the end
        for name in ("loss", "grad_norm"):
            value = float(logs.get(name, 0.0))
            skipped = name == "grad_norm" and args.fp16  # loss scaling overflows now and then, and skips that step
            if not math.isfinite(value) and not skipped:
                raise StageFailed(
                    f"the {name} is {value} at step {state.global_step} of {state.max_steps}: training has diverged",
                    "lower train.learning_rate, raise train.warmup_steps, lower train.max_grad_norm, "
                    "or use hardware.dtype=float32",
                )
        shown = {
            name: logs[name] for name in ("loss", "learning_rate", "grad_norm", "mean_token_accuracy") if name in logs
        }
        self._tell(state, **shown)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        checkpoints.seal(self.folder / f"{checkpoints.PREFIX}{state.global_step}")
        checkpoints.rotate(self.folder, self.keep)

    def seconds(self) -> float:
        """Since training began in this process."""
        return time.perf_counter() - self.began

    def tokens_per_second(self, state: TrainerState) -> float:
        """Tokens of real rows, padding left out, in this process."""
        return (state.num_input_tokens_seen - self.first_token) / max(self.seconds(), 1e-9)

    def _tell(self, state: TrainerState, **values: Any) -> None:
        self.told = time.perf_counter()
        done = state.global_step - self.first_step
        self.report(
            step=state.global_step,
            steps=state.max_steps,
            epoch=round(state.epoch or 0.0, 4),
            **values,
            tokens_per_second=round(self.tokens_per_second(state), 1),
            memory_gb=round(peak_memory_gb(), 3),
            seconds_left=round(self.seconds() / max(done, 1) * (state.max_steps - state.global_step), 1),
        )


def build(config: Config, batch: Fit, prepared: Path, folder: Path, report: Report) -> tuple[Trainer, Progress]:
    """A trainer over prepared rows or packs that keeps its checkpoints in `folder`, and what follows its progress."""
    arguments = settings(config, batch, folder, on_gpu=device(config) != "cpu")
    base, tokenizer = load_base(config), load_tokenizer(require(config.model))
    progress = Progress(report, folder, config.train.save_total_limit)
    if config.train.packing:
        rows = packs(prepared)
        flat = is_flash_attention_requested(requested_attention_implementation=config.hardware.attn_implementation)
        collator = PackCollator(tokenizer.pad_token_id, flat)
    else:
        rows = all_rows(prepared / TRAIN).select_columns(["input_ids", "labels"])
        collator = None  # TRL's own
    trainer = Trainer(
        model=base,
        args=arguments,
        data_collator=collator,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=lora_config(config.lora, base),
        callbacks=[progress],
    )
    return trainer, progress


def settings(config: Config, batch: Fit, folder: Path, on_gpu: bool) -> SFTConfig:
    """What TRL is told. Raises `UserError` for values that it does not take."""
    train, hardware = config.train, config.hardware
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
        # rows come from `prepare` with their labels, packed or not: TRL would pack packs again, and mix documents
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "max_length": None,
        "packing": False,
        "padding_free": False,
        "remove_unused_columns": False,
        # how it fits
        "per_device_train_batch_size": batch.micro_batch,
        "gradient_accumulation_steps": batch.accumulation,
        "activation_checkpointing": hardware.activation_checkpointing,
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
        "report_to": "none",
        "disable_tqdm": True,
    }
    try:
        return SFTConfig(**{**values, **train.extra})
    except (TypeError, ValueError) as error:
        raise UserError(f"train: TRL does not take these settings: {error}", "see train.* and train.extra") from error


def peak_memory_gb() -> float:
    """The most that the process has used so far, in GB: of the card where there is one, else of the machine."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return torch.cuda.max_memory_reserved() / GB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GB  # Linux counts in KiB
