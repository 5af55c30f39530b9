"""TRL's `SFTTrainer` as the train stage uses it. Importing this takes seconds; only a stage at work does it."""

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from sft_runner.data.template import IGNORED
from sft_runner.model.starts import MAGNITUDE
from sft_runner.training.looks import Look
from sft_runner.training.loss import summed_loss
from sft_runner.training.optimizer import loraplus
from sft_runner.training.passes import Layout

MEASURED = ("entropy", "mean_token_accuracy")
"""What TRL's loss measures by the way."""
MOST_LOGITS = 2**28
"""Logits held at once by the plain loss, 1 GiB in float32; more go through TRL's loss, which never holds them all."""


class Trainer(SFTTrainer):
    """`SFTTrainer` with float32 adapters, checkpoints without ballast, and a loss that is fast on the CPU."""

    model: Any
    args: SFTConfig
    data_collator: Any

    def __init__(
        self,
        layout: Layout,
        trained_dtype: torch.dtype = torch.float32,
        loraplus_lr_ratio: float | None = None,
        look: Look | None = None,
        **options: Any,
    ) -> None:
        """`layout` cuts steps into passes, `trained_dtype` is what trains; other options are those of `SFTTrainer`."""
        super().__init__(**options)
        self.trained_dtype, self.look = trained_dtype, look
        self._set_precision()  # TRL rounds the adapter of a quantized base to bfloat16
        self.positions_seen = 0
        self.lengths: list[int] = []  # of the rows of the newest step
        self.processing_class = None  # the rows are tokens already; without it no checkpoint carries a tokenizer
        self.loraplus_lr_ratio = loraplus_lr_ratio
        base = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        takes = inspect.signature(type(base).forward).parameters
        self.layout = replace(layout, mask=self.aux_loss_enabled or "position_ids" not in takes)
        self.plain_loss = (
            self.args.device.type == "cpu"
            and self.args.loss_type == "nll"
            and self.label_smoother is None
            and not self.aux_loss_enabled
        )

    def create_model_card(self, *arguments: Any, **named: Any) -> None:
        """Checkpoints are read by nobody but the next attempt."""

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """TRL's; without its count of tokens, padding too, and without what only passes through its own loss tell."""
        for name in ("num_tokens", *(MEASURED if self.plain_loss else ())):
            self._metrics["train"].pop(name, None)
        super().log(logs, start_time)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """transformers' own, or LoRA+."""
        if self.optimizer is None and self.loraplus_lr_ratio is not None:
            self.optimizer = loraplus(self.model, self.args, self.loraplus_lr_ratio)
        found: torch.optim.Optimizer = super().create_optimizer(model)
        return found

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        """transformers' own, without DoRA's lengths."""
        return [name for name in super().get_decay_parameter_names(model) if MAGNITUDE not in name]

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward, pass by pass; returns the loss of the step, whose gradients are added up."""
        self.lengths = inputs["lengths"]
        loss = torch.zeros((), device=self.args.device)
        for group in self.layout.groups(self.lengths):
            one, tokens = self.layout.laid(inputs, group), sum(self.lengths[row] for row in group)
            # what is a mean over passes, such as the loss that balances experts, is divided by it: each token weighs 1
            self.current_gradient_accumulation_steps = sum(self.lengths) / tokens  # type: ignore[assignment]
            self.positions_seen += one["input_ids"].numel()
            loss += super().training_step(model, one, num_items_in_batch)  # type: ignore[no-untyped-call]
        return loss

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's loss; on the CPU, where TRL has no fused kernel, the same number by plain cross-entropy."""
        count = int((inputs["labels"][:, 1:] != IGNORED).sum()) if self.plain_loss else 0
        logits = count * model.config.get_text_config().vocab_size
        if return_outputs or not self.plain_loss or logits > MOST_LOGITS:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[no-untyped-call]
        return summed_loss(model, inputs) / max(int(count if num_items_in_batch is None else num_items_in_batch), 1)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """A look at held-out rows; TRL's own would pad them as training does."""
        if self.look is None:
            raise RuntimeError("this trainer was made without a look at held-out rows")
        with torch.random.fork_rng(), self.compute_loss_context_manager():
            metrics = self.look(self.model, self.state.global_step)
        self.log(metrics)  # TRL's goes by the mode of the model, which a look leaves in evaluation
        self.model.train()
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def load(self, checkpoint: Path) -> None:
        """Take over the weights of a checkpoint, without what else training goes on from."""
        self._load_from_checkpoint(str(checkpoint))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._set_precision()  # PEFT makes float32 of what it loads

    def _set_precision(self) -> None:
        for name, weights in self.model.named_parameters():
            if weights.requires_grad:
                weights.data = weights.data.to(torch.float32 if MAGNITUDE in name else self.trained_dtype)

    def _track_num_input_tokens(self, inputs: dict[str, Any]) -> None:
        """Count without padding."""
        self.state.num_input_tokens_seen += sum(inputs["lengths"])
