"""How much a training reads: rows, tokens and steps, as prepared, or before that what they are at most."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config, Data, Train
from sft_runner.data import files
from sft_runner.data.sources import Source, sources_of

COUNTED = 10**9
"""Bytes of a file up to which its rows are counted: a second or less."""


@dataclass(frozen=True)
class Volume:
    """What a training reads."""

    rows: int | None
    """Rows of an epoch, each as often as it is learned; None where only the steps are known."""
    tokens: int | None
    """Tokens of an epoch; None where they are not counted yet."""
    steps: int
    """Optimizer steps, all epochs together."""
    total: float
    """Tokens of all steps together."""
    bound: bool
    """Whether rows, steps and tokens are at most so many."""

    def __str__(self) -> str:
        most = "at most " if self.bound else ""
        rows = f"; {most}{self.rows:,} to learn from" if self.rows is not None else ""
        tokens = f", {self.tokens:,} tokens" if self.tokens is not None else ""
        return f"{rows}{tokens}; {most}{self.steps:,} steps"


def volume(config: Config, prepared: Mapping[str, Any] | None) -> Volume | None:
    """From the metrics of the prepared rows; before there are any, from a quick count of the data's rows, all of them
    of full length. None where that is not known."""
    train = config.train
    if prepared:
        rows, tokens = int(prepared["packing"]["rows"]), int(prepared["tokens"]["train"])
        steps = _steps(train, rows)
        return Volume(rows, tokens, steps, tokens * steps / _steps_of_epoch(train, rows), False)
    most = _most_rows(config.data)
    if most is None and train.max_steps <= 0:
        return None
    steps = _steps(train, most or 0)
    read = steps * train.batch_size
    if most is not None and train.max_steps <= 0:
        read = min(read, math.ceil(train.num_train_epochs * most))
    return Volume(most, None, steps, read * config.data.max_length, True)


def _steps(train: Train, rows: int) -> int:
    """Optimizer steps: as transformers counts them."""
    if train.max_steps > 0:
        return train.max_steps
    return math.ceil(train.num_train_epochs * _steps_of_epoch(train, rows))


def _steps_of_epoch(train: Train, rows: int) -> int:
    return math.ceil(rows / train.batch_size)


def _most_rows(data: Data) -> int | None:
    """Rows of all sources, those that are held out or dropped later among them; None where a count is slow, or where a
    row may become several."""
    if data.overlong == "split" or data.reasoning == "keep":
        return None
    counts = [_most_rows_of(source, data) for source in sources_of(data)]
    return None if None in counts else sum(count for count in counts if count is not None)


def _most_rows_of(source: Source, data: Data) -> int | None:
    path = Path(source.path).expanduser()
    large = path.is_file() and path.stat().st_size > COUNTED
    count = source.limit or data.limit if large else files.count_rows(source, data)
    return None if count is None else math.ceil(min(count, source.cap or count) * source.weight)
