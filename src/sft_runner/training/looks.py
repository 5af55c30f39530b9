"""Looks at held-out rows while training, by the code of the evaluate stage, and what follows from them.

A look changes nothing: it draws no random number, and the model goes back to training as it was.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config
from sft_runner.config.schema_train import Train
from sft_runner.errors import DataError, UserError
from sft_runner.evaluation.names import lower_is_better
from sft_runner.training.memory import Ladder

PREFIX = "eval_"
"""What transformers puts before the name of a metric that was measured on held-out rows."""
SHARE = 0.1
"""Steps between two looks, as a share of all steps, where a look is needed and `train.eval_steps` is open."""
Entry = Mapping[str, Any]
"""A log entry with `eval_loss`, and its `step`."""
Look = Callable[[Any, int], dict[str, float]]
"""From the model and the steps it has done to its scores: `eval_loss` in nats for each answer token, and the metric
that is watched."""


def eval_steps(train: Train) -> float:
    """Steps between two looks, below 1 a share of all steps; 0 where there are none. Raises `UserError`."""
    needed = train.early_stopping.patience is not None or train.load_best_model_at_end
    if train.eval_steps is None:
        return SHARE if needed else 0.0
    if needed and not train.eval_steps:
        key = "load_best_model_at_end" if train.load_best_model_at_end else "early_stopping.patience"
        raise UserError(f"train.{key} needs looks at held-out rows, and train.eval_steps=0", "leave it open, or 0.1")
    return train.eval_steps


def look(config: Config, prepared: Path, ladder: Ladder) -> Look | None:
    """How to look at `train.eval_rows` of the held-out rows; None where `train` asks for no looks.

    Where memory runs out, it scores fewer at once from then on. Raises `DataError` where no row was held out; the look
    raises `MachineError` where memory runs out with one row.
    """
    if not eval_steps(config.train):
        return None
    from sft_runner.evaluation.metrics.metric import metrics_of
    from sft_runner.evaluation.scoring import score
    from sft_runner.model.files import require
    from sft_runner.model.loading import load_tokenizer
    from sft_runner.model.rows import held_out

    try:
        rows = held_out(prepared, config.train.eval_rows)
    except DataError as error:
        hint = "set data.held_out to a share such as 0.1 or a number of rows, or leave train.eval_steps open"
        raise DataError("data.held_out: no row was kept away from training for train.eval_steps", hint) from error
    tokenizer, stopping = load_tokenizer(require(config.model)), config.train.early_stopping
    watched = stopping.metric
    generated = metrics_of([watched], stopping.pattern or config.evaluate.pattern)
    longest = stopping.max_new_tokens or config.evaluate.max_new_tokens

    def measure(model: Any, step: int) -> dict[str, float]:
        def told(**values: Any) -> None:  # only where memory ran out: the steps of a look are not those of the training
            fewer = values.get("per_device_eval_batch_size", ladder.rung.eval_batch)
            if fewer < ladder.rung.eval_batch:
                ladder.descend(replace(ladder.rung, eval_batch=fewer), step, values["error"])

        size = ladder.rung.eval_batch
        found = score(model, tokenizer, rows, generated, longest, size, told)
        if watched not in found.metrics:
            hint = "watch another metric, or loss"
            raise DataError(
                f"train.early_stopping.metric={watched} means nothing for any of {len(rows)} held-out rows", hint
            )
        return {f"{PREFIX}{name}": found.metrics[name] for name in ("loss", watched)}

    return measure


def evaluated(history: Iterable[Entry]) -> list[Entry]:
    """The looks among a trainer's log entries."""
    return [entry for entry in history if f"{PREFIX}loss" in entry]


def best(looks: Iterable[Entry], metric: str) -> Entry | None:
    """The look with the best score; of several, the one with the lowest loss, then the first."""

    def order(entry: Entry) -> tuple[float, float, int]:
        return _badness(entry, metric), float(entry[f"{PREFIX}loss"]), int(entry["step"])

    return min(looks, key=order, default=None)


def without_improvement(looks: Iterable[Entry], metric: str, min_delta: float) -> int:
    """How many of the newest looks in a row were not better by more than `min_delta` than the best before them.

    Only a look that was so much better counts as the new best, so that many small steps add up to an improvement.
    """
    lowest, count = float("inf"), 0
    for entry in looks:
        badness = _badness(entry, metric)
        if badness < lowest - min_delta:
            lowest, count = badness, 0
        else:
            count += 1
    return count


def _badness(entry: Entry, metric: str) -> float:
    value = float(entry[f"{PREFIX}{metric}"])
    return value if lower_is_better(metric) else -value
