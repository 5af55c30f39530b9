"""Which base an adapter is merged into that was trained on a quantized one: the original, or what training saw of it.

An adapter learns to make up for the rounding that it sees, and the original is the better model without it. Which
counts for more is measured: the loss on held-out rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import Config
from sft_runner.data.prepared import HELD_OUT
from sft_runner.merging.proof import answer_logits
from sft_runner.merging.rounding import Rounding, round_in_place
from sft_runner.model.rows import Rows, all_rows, held_out
from sft_runner.stages.stage import Report

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 100
"""Held-out rows on which the two bases are compared."""
ORIGINAL, QUANTIZED = "original", "quantized"


@dataclass(frozen=True)
class Choice:
    """A base, and why it is the one."""

    base: str
    """`original` or `quantized`."""
    candidates: dict[str, dict[str, float]]
    """What each scored on the held-out rows, `{original: {loss}, quantized: {loss}}`; empty where there are none."""
    expected: "list[Tensor]"
    """What the adapter on the chosen base says to the proving rows."""
    note: str
    """One sentence for a person."""


def choose(
    config: Config,
    adapted: Any,
    base: Path,
    rounding: Rounding,
    prepared: Path,
    rows: Rows,
    report: Report,
    verify: Callable[[Any], None],
    own_code: bool = False,
) -> Choice:
    """Choose as `merge.base` says. One model is in memory: `adapted`, whose base is rounded in its place.

    `rows` are those that the merge is proven on. `verify` is called with the model once it is what training saw.
    Raises `NotFinite` where a loss is not a number.
    """
    asked = config.merge.base
    scored = held_out(prepared, ROWS) if len(all_rows(prepared / HELD_OUT)) else None
    candidates: dict[str, dict[str, float]] = {}
    if scored is not None:
        candidates[ORIGINAL] = _loss(adapted, config, scored, report)
    expected = [] if asked == QUANTIZED else answer_logits(adapted, rows)
    report(message=f"rounds the base to {rounding.bits} bits, as training saw it")
    round_in_place(adapted, base, rounding, own_code)
    verify(adapted)
    if scored is not None:
        candidates[QUANTIZED] = _loss(adapted, config, scored, report)
    chosen = asked if asked != "auto" else _better(candidates)
    if chosen == QUANTIZED:
        expected.clear()  # before those of the other come
        expected = answer_logits(adapted, rows)
    return Choice(chosen, candidates, expected, _told(asked, chosen, candidates, scored))


def _better(candidates: dict[str, dict[str, float]]) -> str:
    """The one with the lower loss; of equals, and unmeasured, the one that was trained on."""
    if not candidates or candidates[QUANTIZED]["loss"] <= candidates[ORIGINAL]["loss"]:
        return QUANTIZED
    return ORIGINAL


def _loss(model: Any, config: Config, rows: Rows, report: Report) -> dict[str, float]:
    """Nats for each answer token."""
    from sft_runner.evaluation.losses import losses

    def quiet(**values: Any) -> None:
        # steps are the stage's own
        report(**{name: value for name, value in values.items() if name not in ("step", "steps")})

    found = losses(model, rows, config.hardware.per_device_eval_batch_size, quiet)
    return {"loss": sum(one.nats for one in found) / sum(one.tokens for one in found)}


def _told(asked: str, chosen: str, candidates: dict[str, dict[str, float]], scored: Rows | None) -> str:
    other = QUANTIZED if chosen == ORIGINAL else ORIGINAL
    words = {ORIGINAL: "the original base", QUANTIZED: "the base as training saw it quantized"}
    why = f", as merge.base={asked} asks" if asked != "auto" else ""
    if scored is None:
        if asked == "auto":
            why = ", which was trained on: no held-out row can tell which base is better"
        return f"merged into {words[chosen]}{why}"
    loss = {name: f"{values['loss']:.4f}" for name, values in candidates.items()}
    measured = f"loss {loss[chosen]} on {len(scored)} held-out rows, {loss[other]} on {words[other]}"
    return f"merged into {words[chosen]}{why}: {measured}"
