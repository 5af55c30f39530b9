"""The proof that a model keeps the rows of a flat pass apart.

Rows in one row are kept apart by position ids that start again with each of them. That holds for attention alone:
layers with a memory of their own run on, so it is checked on the model before it learns anything.
"""

from typing import Any

import torch
from torch import Tensor

from sft_runner.errors import StageFailed
from sft_runner.training.passes import Batch, Layout

CHECKED = 8
"""Rows that are compared with themselves alone."""
EDGE = 16
"""Positions compared at the start of each row, where a neighbour shows most, besides its last one."""
TOLERANCE = 1e-4
"""Largest logit difference allowed in float32, relative to the largest logit."""
COARSE_TOLERANCE = 0.1
"""The same in 16 bits or on a quantized base, where the size of a batch alone moves logits by a few hundredths."""


def check_isolated(model: Any, batch: Batch, exact: bool) -> float:
    """The largest difference of a logit of rows in one flat pass from that of the same rows alone, relative.

    `exact` says that the arithmetic is float32. Raises `StageFailed` where a row sees another.
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
        raise StageFailed(f"train.packing: the model takes no position ids: {error}", _HINT) from error
    finally:
        model.train(training)
    allowed = TOLERANCE if exact else COARSE_TOLERANCE
    relative = difference / scale if scale else difference
    if not relative <= allowed:  # so that nan fails too
        raise StageFailed(
            "train.packing: this model does not keep rows in one flat row apart: their logits differ from those of "
            f"the same rows alone by up to {relative:.3g} of the largest logit ({allowed:g} is allowed)",
            _HINT,
        )
    return relative


_HINT = "set train.packing=false, or hardware.attn_implementation=sdpa, where rows stay rows"


def _logits(model: Any, inputs: dict[str, Any]) -> Tensor:
    """Logits of one row, in float32, of shape (tokens, vocabulary)."""
    given = {
        name: value.to(model.device) if isinstance(value, Tensor) else value
        for name, value in inputs.items()
        if name != "labels"
    }
    found: Tensor = model(**given, use_cache=False).logits
    return found[0].float()
