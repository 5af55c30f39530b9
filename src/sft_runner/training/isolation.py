"""The proof that a model keeps the rows of a flat pass apart; else rows stay rows.

Rows in one row are kept apart by position ids that start again with each of them. That holds for attention alone:
layers with a memory of their own run on, so it is checked on the model before it learns anything.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sft_runner.config.schema import Config
from sft_runner.training.passes import Batch, Layout

if TYPE_CHECKING:
    from sft_runner.training.trainer import Trainer

CHECKED, TOKENS = 8, 128
"""Rows that are compared with themselves alone, and how many of their first tokens."""
EDGE = 16
"""Positions compared at the start of each row, where a neighbour shows most, besides its last one."""
TOLERANCE = 1e-4
"""Largest logit difference allowed in float32, relative to the largest logit."""
COARSE_TOLERANCE = 0.1
"""The same in 16 bits or on a quantized base, where the size of a batch alone moves logits by a few hundredths."""


def keep_rows_apart(trainer: "Trainer", config: Config) -> list[str]:
    """Let rows stay rows where the trainer's passes are flat and its model mixes them; then a note says so."""
    if not (trainer.layout.packing and trainer.layout.flat):
        return []
    rows: Any = trainer.train_dataset
    found = rows.select(range(min(CHECKED, len(rows)))).to_list()
    batch = trainer.data_collator([{name: values[:TOKENS] for name, values in row.items()} for row in found])
    mixed = mixes(trainer.model, batch, config.hardware.dtype == "float32" and config.quantization.bits == "none")
    if mixed is None:
        return []
    trainer.layout = replace(trainer.layout, flat=False)
    return [f"train.packing: rows stand side by side, because {mixed}"]


def mixes(model: Any, batch: Batch, exact: bool) -> str | None:
    """Why rows cannot stand in one flat row, in words; None where each has the logits that it has alone.

    `exact` says that the arithmetic is float32.
    """
    rows = [batch["input_ids"][place, :length][None] for place, length in enumerate(batch["lengths"])]
    flat = Layout(rows=len(rows), packing=True, flat=True, length=sum(batch["lengths"]))
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            difference = scale = 0.0
            for one, group in zip(flat.passes(batch), flat.groups(batch["lengths"]), strict=True):
                together, start = _logits(model, one), 0
                for ids in (rows[place] for place in group):
                    own = [*range(min(EDGE, ids.shape[1] - 1)), ids.shape[1] - 1]
                    alone = _logits(model, {"input_ids": ids})[own]
                    gap = together[[start + column for column in own]] - alone
                    difference, scale = max(difference, gap.abs().max().item()), max(scale, alone.abs().max().item())
                    start += ids.shape[1]
    except (TypeError, NotImplementedError) as error:
        return f"this model takes no flat row: {error}"
    finally:
        model.train(training)
    relative = difference / scale if scale else difference
    if relative <= (TOLERANCE if exact else COARSE_TOLERANCE):  # nan is not
        return None
    return f"this model mixes rows in one flat row: logits differ by {relative:.3g} of the largest"


def _logits(model: Any, inputs: dict[str, Any]) -> Tensor:
    """Logits of one row, in float32, of shape (tokens, vocabulary)."""
    given = {
        name: value.to(model.device) if isinstance(value, Tensor) else value
        for name, value in inputs.items()
        if name != "labels"
    }
    found: Tensor = model(**given, use_cache=False).logits
    return found[0].float()
