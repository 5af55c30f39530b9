"""Moments of a training that no setting moves: what hangs on them is the same however often one logs or saves."""

import math

from sft_runner.config.schema_train import Train


def tenth(steps: int) -> int:
    """Steps of a tenth of a training of so many steps. At the end of each there is a log entry."""
    return max(math.ceil(steps / 10), 1)


def fallback(train: Train, steps: int) -> int:
    """Every so many steps there is a checkpoint that a training which diverges may end with; 1: at any."""
    return tenth(steps) if train.on_divergence == "keep" else 1


def stretch(train: Train, steps: int) -> int:
    """Steps over which losses are averaged before they are compared; 1: as they were logged, so the soonest.

    Where the result depends on it, a hundredth of the steps.
    """
    return max(math.ceil(steps / 100), 1) if train.on_divergence == "keep" else 1
