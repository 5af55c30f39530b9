"""What each row adds to each metric, as matrices: scores, also those of some rows, are functions of their sums."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.disk import explained
from sft_runner.evaluation.losses import Loss
from sft_runner.evaluation.metrics.metric import ALWAYS, Metric
from sft_runner.evaluation.metrics.thoughts import spoken

if TYPE_CHECKING:
    from numpy.typing import NDArray

Statistics = Mapping[str, "NDArray[Any]"]
"""Metric -> matrix `[rows, numbers of a row]`; a row for which the metric means nothing is not a number."""


def of_losses(losses: Sequence[Loss], sizes: Sequence[int]) -> Statistics:
    """The metrics that are always measured; `sizes` are the bytes of each row's answers."""
    import numpy as np

    nats, tokens, right = ([getattr(loss, name) for loss in losses] for name in ("nats", "tokens", "right"))

    def columns(above: Sequence[float], below: Sequence[float]) -> "NDArray[Any]":
        return np.array([above, below], dtype=np.float64).T

    return {
        "loss": columns(nats, tokens),
        "perplexity": columns(nats, tokens),
        "bits_per_byte": columns(nats, sizes),
        "token_accuracy": columns(right, tokens),
    }


def of_answers(metric: Metric, pairs: Sequence[tuple[str, str] | None]) -> "NDArray[Any]":
    """One metric, from what each row's answer and expected text say; None where there is no answer."""
    import numpy as np

    found = np.full((len(pairs), metric.width), np.nan)
    for row, pair in zip(found, pairs, strict=True):
        numbers = metric.statistics(*spoken(*pair)) if pair else None
        if numbers is not None:
            row[:] = numbers
    return found


def counted(matrix: "NDArray[Any]") -> "NDArray[Any]":
    """Which rows a metric is measured on, `[rows]`."""
    import numpy as np

    here: NDArray[Any] = ~np.isnan(matrix).any(axis=1)
    return here


def scores(statistics: Statistics, metrics: Sequence[Metric], members: Sequence[int] | None = None) -> dict[str, float]:
    """The metrics of all rows, or of some; one that no row counts for is left out."""
    functions = {**ALWAYS, **{metric.name: metric.value for metric in metrics}}
    found = {}
    for name, matrix in statistics.items():
        part = matrix if members is None else matrix[list(members)]
        part = part[counted(part)]
        value = functions[name](part.sum(axis=0)) if len(part) else math.nan
        if not math.isnan(value):
            found[name] = value
    return found


def of_rows(metric: Metric, matrix: "NDArray[Any]") -> list[float | None]:
    """A metric of each row by itself; None where it means nothing."""
    return [metric.of_row(row) if here else None for row, here in zip(matrix, counted(matrix), strict=True)]


def write(path: Path, statistics: Statistics) -> None:
    """Keep them as an `.npz` file."""
    import numpy as np

    with explained(path):
        np.savez(path, **statistics)  # type: ignore[arg-type]


def read(path: Path) -> Statistics:
    """What `write` kept."""
    import numpy as np

    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
