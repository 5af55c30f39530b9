"""How training ended: why, at which step, and which step's weights are the result."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sft_runner.config.schema import Config
from sft_runner.errors import StageFailed
from sft_runner.training import checkpoints
from sft_runner.training.attempts import Attempts
from sft_runner.training.cadence import fallback
from sft_runner.training.divergence import Divergence
from sft_runner.training.looks import best, evaluated

if TYPE_CHECKING:
    from sft_runner.training.trainer import Trainer

STEPS, EARLY, BUDGET, DIVERGENCE = "steps", "early stopping", "budget", "divergence"
"""Why training stopped."""


@dataclass(frozen=True)
class Ending:
    """The end of a training."""

    stopped_by: str
    """`steps`, `early stopping`, `budget` or `divergence`."""
    step: int
    """Where it stopped."""
    steps: int
    """Where it would have stopped at the latest."""
    kept: int
    """The step whose weights are the result."""


def conclude(trainer: "Trainer", config: Config, folder: Path, stopped_by: str, diverged: Divergence | None) -> Ending:
    """Put the weights that are the result into the trainer's model: the last, the best look's, or the last good ones.

    `folder` holds the checkpoints. Raises `StageFailed` where the best one was damaged.
    """
    state, train = trainer.state, config.train
    kept = state.global_step
    looks = evaluated(state.log_history)
    if diverged:
        if good := checkpoints.latest(folder, diverged.good, fallback(train, state.max_steps)):
            kept = good[0]
        looks = [look for look in looks if look["step"] <= diverged.good and checkpoints.whole(folder, look["step"])]
    if train.load_best_model_at_end and (found := best(looks, train.early_stopping.metric)):
        kept = int(found["step"])
    if kept != state.global_step or diverged:
        checkpoint = checkpoints.whole(folder, kept)
        if checkpoint is None:
            raise StageFailed(
                f"the checkpoint of step {kept}, which is to be the result, was damaged on the disk",
                "the same command trains again from an earlier one",
            )
        trainer.load(checkpoint)
    return Ending(stopped_by, state.global_step, state.max_steps, kept)


def after_divergence(found: Divergence, config: Config, folder: Path, attempts: Attempts, steps: int) -> None:
    """Remember it, and remove the checkpoints that were taken after it began.

    Raises `StageFailed` unless `train.on_divergence=keep` and a good checkpoint is left.
    """
    checkpoints.discard(folder, after=found.good)
    good = checkpoints.latest(folder)
    attempts.divergences.append(found)
    attempts.write()
    if config.train.on_divergence == "keep" and checkpoints.latest(folder, every=fallback(config.train, steps)):
        return
    left = f"the last good checkpoint is that of step {good[0]}" if good else "no checkpoint was taken before it began"
    precision = "" if config.hardware.dtype == "float32" else ", use hardware.dtype=float32"
    keep = ", or set train.on_divergence=keep to end with the weights of the last good tenth" if good else ""
    raise StageFailed(
        f"{found.what} at step {found.step} of {steps}: training has diverged; {left}",
        f"lower train.learning_rate, raise train.warmup_steps, lower train.max_grad_norm{precision}{keep}; "
        f"the same command goes on from {f'step {good[0]}' if good else 'the start'} and is likely to end here again",
    )
