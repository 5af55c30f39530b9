"""The proof that a model is the one that was trained: its logits on real rows, against those that are expected.

What is expected comes from the train stage, which keeps the trained model's own logits before it writes anything, and
from the adapter beside its base.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.data.prepared import HELD_OUT, TRAIN
from sft_runner.disk import explained
from sft_runner.errors import DataError, StageFailed
from sft_runner.merging.loading import dtype_of, load_stored
from sft_runner.model.rows import Rows, answer_positions, first_rows

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TOLERANCE = 1e-4
"""Largest logit difference allowed in float32, relative to the largest logit; tiny models reach 3e-6."""
COARSE_TOLERANCE = 0.2
"""The same where one side is in 16 bits: one logit of thousands may be far off where each layer rounds at another
place. Random models, which are worse than trained ones, reach 0.09."""
KL_TOLERANCE, COARSE_KL_TOLERANCE = 1e-6, 0.02
"""Largest mean divergence allowed, in nats for each position, which tells models apart that no single logit does. Of
equal models the embedded one reaches 9e-9 in float32 and 6e-4 in bfloat16, random ones 4e-3; of a base whose weights
all differ by 3 % it is 0.03, and 0.07 for random ones."""
INT8_TOLERANCE, INT8_KL_TOLERANCE = 0.3, 0.05
"""The same against what training kept of an 8-bit base: LLM.int8 rounds activations too, which no merged model does.
The embedded model reaches 0.02 and 6e-4, random ones 0.11 and 0.015."""
POSITIONS = 256
"""Most answer positions compared in one row, so that the logits of 8 rows stay below 1 GB in 16 bits."""
KEPT_ROWS, KEPT_POSITIONS = 8, 8
"""Rows, and positions of each, whose logits training keeps: 20 MB in 16 bits for 150,000 tokens of vocabulary."""
KEPT = "logits.safetensors"
"""Their file in the train stage's folder."""


@dataclass(frozen=True)
class Difference:
    """How far two models' logits are apart at the answers' positions."""

    max: float
    """Largest absolute difference of two logits."""
    mean: float
    """Mean absolute difference."""
    relative: float
    """Largest difference as a share of the largest absolute logit."""
    kl: float
    """Mean Kullback-Leibler divergence of the found distribution from the expected one, in nats for each position."""
    equal_greedy: float
    """Share of positions at which both would choose the same token."""


def proving_rows(prepared: Path, limit: int) -> Rows:
    """The first held-out rows, or where none were held out the first rows. Raises `DataError` where there are none."""
    rows = first_rows(prepared / HELD_OUT, limit) or first_rows(prepared / TRAIN, limit)
    if rows is None:
        raise DataError("data.path: no row was prepared to verify the merge on", "give more rows")
    return rows


def answer_logits(model: Any, rows: Rows, positions: int = POSITIONS) -> "list[Tensor]":
    """The logits at each row's first answer tokens, on the CPU in the model's precision, one row at a time."""
    import torch

    found = []
    for row in rows:
        ids = torch.tensor([row["input_ids"]], dtype=torch.long, device=model.device)
        keep = torch.tensor(answer_positions(row["labels"])[:positions], dtype=torch.long, device=model.device)
        with torch.inference_mode():
            found.append(model(input_ids=ids, logits_to_keep=keep, use_cache=False).logits[0].cpu())
    return found


def keep(model: Any, prepared: Path, folder: Path, dtype: "torch.dtype") -> None:
    """Write `folder/KEPT`: what the trained model says to the rows that merge proves the written one on.

    `dtype` is the precision of its arithmetic, and that of the file.
    """
    import torch
    from safetensors.torch import save_file

    training = model.training
    model.eval()
    with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
        found = answer_logits(model, proving_rows(prepared, KEPT_ROWS), KEPT_POSITIONS)
    model.train(training)
    with explained(folder / KEPT):
        save_file({f"{place:03}": logits.to(dtype).contiguous() for place, logits in enumerate(found)}, folder / KEPT)


def kept(train: Path) -> "list[Tensor] | None":
    """What `keep` wrote into the train stage's folder; None where it did not."""
    from safetensors.torch import load_file

    if not (train / KEPT).is_file():
        return None
    return [logits for _, logits in sorted(load_file(train / KEPT).items())]


def verify_trained(
    model: Any, trained: "Sequence[Tensor]", prepared: Path, tolerance: float | None = None, bits: str = "none"
) -> Difference:
    """Compare a model with the logits that training kept. Raises `StageFailed` beyond the tolerance.

    `bits` says how training held the base; a quantized one must be rounded in `model` too.
    """
    difference = compare(trained, answer_logits(model, proving_rows(prepared, len(trained)), KEPT_POSITIONS))
    dtypes = {dtype_of(model), str(trained[0].dtype).removeprefix("torch.")}
    limits = (INT8_TOLERANCE, INT8_KL_TOLERANCE) if bits == "8" else _limits(dtypes)
    what = "proof of the training: what was written is not the model that was trained"
    _check(what, difference, len(trained), _scaled(limits, tolerance), " and ".join(sorted(dtypes)))
    return difference


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
    what = "proof of the logits: the merged model is not the trained one"
    _check(what, difference, len(rows), _scaled(_limits({dtype}), tolerance), dtype)
    return difference


def compare(expected: "Sequence[Tensor]", found: "Sequence[Tensor]") -> Difference:
    """The difference over all rows, in float32, a row at a time."""
    from torch.nn.functional import kl_div

    largest = scale = total = divergence = 0.0
    equal = positions = values = 0
    finite = True
    for one, two in zip(expected, found, strict=True):
        one, two = one.float(), two.float()
        gap = (one - two).abs()
        finite = finite and bool(gap.isfinite().all())
        largest, scale = max(largest, gap.max().item()), max(scale, one.abs().max().item())
        total, values = total + gap.double().sum().item(), values + gap.numel()
        equal, positions = equal + int((one.argmax(-1) == two.argmax(-1)).sum()), positions + len(one)
        divergence += kl_div(two.log_softmax(-1), one.log_softmax(-1), reduction="sum", log_target=True).item()
    if not finite:
        largest = total = divergence = float("nan")
    kl = max(divergence / positions, 0.0) if finite else divergence  # sums of float32 can end below zero
    return Difference(largest, total / values, largest / scale if scale else largest, kl, equal / positions)


Limits = tuple[float, float]
"""Largest relative difference, and largest mean divergence."""


def loosened(tolerance: float | None, dtype: str) -> str:
    """A sentence where `merge.tolerance` allows more than what is usual for a precision; else empty."""
    usual, _ = _limits({dtype})
    if tolerance is None or tolerance <= usual:
        return ""
    return f"merge.tolerance={tolerance:g} allows more than the {usual:g} that is usual in {dtype}: the proofs say less"


def _limits(dtypes: set[str]) -> Limits:
    """What these precisions allow."""
    fine = dtypes <= {"float64", "float32"}
    return (TOLERANCE, KL_TOLERANCE) if fine else (COARSE_TOLERANCE, COARSE_KL_TOLERANCE)


def _scaled(limits: Limits, tolerance: float | None) -> Limits:
    """The limits of a tolerance that a person sets: divergence grows with the square of the difference."""
    return limits if tolerance is None else (tolerance, limits[1] * (tolerance / limits[0]) ** 2)


def _check(what: str, difference: Difference, rows: int, limits: Limits, dtype: str) -> None:
    relative, kl = limits
    if not (difference.relative <= relative and difference.kl <= kl):  # so that nan fails too
        raise StageFailed(
            f"{what}: on {rows} rows its logits differ by up to "
            f"{difference.max:.3g}, which is {difference.relative:.3g} of the largest logit "
            f"({relative:g} is allowed in {dtype}), and diverge by {difference.kl:.3g} nats for each token "
            f"({kl:.3g} is allowed); {difference.equal_greedy:.1%} of the greedy tokens are equal",
            "what was trained is untouched; merge.tolerance sets how much is allowed",
        )
