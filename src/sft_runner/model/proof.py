"""The proof that a model is the one that was trained: its logits on real rows, against those that are expected."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.errors import StageFailed
from sft_runner.model.merging import dtype_of, load_stored
from sft_runner.model.rows import Rows, answer_positions

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.05}
"""Largest logit difference allowed, relative to the largest logit. In 16 bits the merged weights are rounded anew."""
POSITIONS = 256
"""Most answer positions compared in one row, so that the logits of 8 rows stay below 1 GB in 16 bits."""


@dataclass(frozen=True)
class Difference:
    """How far two models' logits are apart at the answers' positions."""

    max: float
    """Largest absolute difference of two logits."""
    mean: float
    """Mean absolute difference."""
    relative: float
    """Largest difference as a share of the largest absolute logit."""
    equal_greedy: float
    """Share of positions at which both would choose the same token."""


def answer_logits(model: Any, rows: Rows) -> "list[Tensor]":
    """The logits at each row's answer tokens, on the CPU in the model's precision, one row at a time."""
    import torch

    found = []
    for row in rows:
        ids = torch.tensor([row["input_ids"]], dtype=torch.long, device=model.device)
        keep = torch.tensor(answer_positions(row["labels"])[:POSITIONS], dtype=torch.long, device=model.device)
        with torch.inference_mode():
            found.append(model(input_ids=ids, logits_to_keep=keep, use_cache=False).logits[0].cpu())
    return found


def verify(
    folder: Path,
    expected: "Sequence[Tensor]",
    rows: Rows,
    tolerance: float | None = None,
    device: str = "cpu",
    own_code: bool = False,
) -> Difference:
    """Compare the model that lies in `folder` with `expected` logits. Raises `StageFailed` beyond the tolerance."""
    model = load_stored(folder, device, own_code)
    difference = compare(expected, answer_logits(model, rows))
    dtype = dtype_of(model)
    allowed = TOLERANCE[dtype] if tolerance is None else tolerance
    if not difference.relative <= allowed:  # so that nan fails too
        raise StageFailed(
            f"the merged model is not the trained one: on {len(rows)} rows its logits differ by up to "
            f"{difference.max:.3g}, which is {difference.relative:.3g} of the largest logit "
            f"({allowed:g} is allowed in {dtype}); {difference.equal_greedy:.1%} of the greedy tokens are equal",
            "what was trained is untouched; merge.tolerance sets how much is allowed",
        )
    return difference


def compare(expected: "Sequence[Tensor]", found: "Sequence[Tensor]") -> Difference:
    """The difference over all rows, in float32, a row at a time."""
    largest = scale = total = 0.0
    equal = positions = values = 0
    finite = True
    for one, two in zip(expected, found, strict=True):
        gap = (one.float() - two.float()).abs()
        finite = finite and bool(gap.isfinite().all())
        largest, scale = max(largest, gap.max().item()), max(scale, one.float().abs().max().item())
        total, values = total + gap.double().sum().item(), values + gap.numel()
        equal, positions = equal + int((one.argmax(-1) == two.argmax(-1)).sum()), positions + len(one)
    if not finite:
        largest = total = float("nan")
    return Difference(largest, total / values, largest / scale if scale else largest, equal / positions)
