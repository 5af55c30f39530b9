"""The optimizer of LoRA+: two learning rates for the two factors of an adapter (Hayou et al. 2024)."""

from typing import Any

import torch
from peft.optimizers import create_loraplus_optimizer
from transformers import Trainer
from trl.trainer.sft_config import SFTConfig

from sft_runner.model.starts import MAGNITUDE


def loraplus(model: Any, arguments: SFTConfig, ratio: float) -> torch.optim.Optimizer:
    """The optimizer that `arguments` name, with B at `ratio` times the learning rate of A.

    Vectors (DoRA's magnitudes) go with B, as in the reference implementation, but do not decay. A scheduler multiplies
    each group's own rate, so that the ratio holds at every step.
    """
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    rate = options.pop("lr")
    optimizer = create_loraplus_optimizer(
        model,
        kind,
        lr=rate,
        loraplus_lr_ratio=ratio,
        loraplus_weight_decay=arguments.weight_decay,
        loraplus_lr_embedding=rate,  # PEFT's own 1e-6 would leave an adapter on the embedding where it starts
        **options,
    )
    kept = {id(value) for name, value in model.named_parameters() if MAGNITUDE in name}
    *decaying, still = optimizer.param_groups
    for group in decaying:
        still["params"] += [value for value in group["params"] if id(value) in kept]
        group["params"] = [value for value in group["params"] if id(value) not in kept]
    return optimizer
