"""TRL's `SFTTrainer` as the train stage uses it. Importing this takes seconds; only a stage at work does it."""

import inspect
from typing import Any

import torch
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from sft_runner.model.packs import count_tokens

MOST_LOGITS = 2**28
"""Logits held at once by the plain loss, 1 GiB in float32; more go through TRL's loss, which never holds them all."""


class Trainer(SFTTrainer):
    """`SFTTrainer` with float32 adapters, checkpoints without ballast, and a loss that is fast on the CPU."""

    model: Any
    args: SFTConfig
    data_collator: Any

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
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
