"""Loss curves of several runs on common axes. Geometry in the units of the picture's view box."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sft_runner.disk import read_json
from sft_runner.report.record import Record
from sft_runner.tracking.numbers import is_number

WIDTH, HEIGHT = 720.0, 260.0
"""Of the part with curves."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a94a3", "#b8860b")
"""Told apart by people who see few colours too (Okabe and Ito 2008); beyond them they begin again, dashed."""
MOST_POINTS = 400
"""Of one curve; neighbours are averaged beyond."""
LOG_SCALE_FROM = 30
"""As in the picture of one training."""


@dataclass(frozen=True)
class Curve:
    """One run's."""

    label: str
    """What it is called."""
    path: str
    """SVG path."""
    colour: str
    """Its colour."""
    dashed: bool
    """Whether its colour is used for the second time."""
    last: float
    """The loss at its end, in nats a token."""


@dataclass(frozen=True)
class Curves:
    """The picture."""

    curves: list[Curve]
    """As far as the runs have one."""
    steps: list[tuple[float, str]]
    """Places and labels on the lower axis."""
    losses: list[tuple[float, str]]
    """Places and labels on the left axis."""
    logarithmic: bool
    """Whether losses are placed by their logarithm."""


def curves(runs: Sequence[Record], labels: Sequence[str]) -> Curves | None:
    """The training losses of runs; None where none of them has any."""
    found = [(place, points(run)) for place, run in enumerate(runs)]
    found = [(place, logged) for place, logged in found if len(logged) > 1]
    if not found:
        return None
    every = [loss for _, logged in found for _, loss in logged]
    last = max(step for _, logged in found for step, _ in logged)
    logarithmic = min(every) > 0 and max(every) >= LOG_SCALE_FROM * min(every)
    low, high = (min(every) / 1.2, max(every) * 1.2) if logarithmic else (min(0.0, min(every)), max(every) * 1.05)

    def height(loss: float) -> float:
        share = math.log(loss / low) / math.log(high / low) if logarithmic else (loss - low) / ((high - low) or 1)
        return round(HEIGHT * (1 - share), 1)

    drawn = [
        Curve(
            labels[place],
            "M" + " L".join(f"{step / last * WIDTH:.1f},{height(loss)}" for step, loss in logged),
            COLOURS[place % len(COLOURS)],
            place >= len(COLOURS),
            logged[-1][1],
        )
        for place, logged in found
    ]
    ticks = _powers(low, high) if logarithmic else _round(high, low)
    steps = [(round(step / last * WIDTH, 1), f"{step:,.0f}") for step in _round(last)]
    return Curves(drawn, steps, [(height(tick), f"{tick:.3g}") for tick in ticks], logarithmic)


def _round(high: float, low: float = 0.0) -> list[float]:
    """Round values from `low` to `high`, at most six steps apart, as a reader expects them on an axis."""
    power = 10.0 ** math.floor(math.log10(max(high - low, 1e-9)) - 1)
    step = next(factor * power for factor in (1, 2, 5, 10, 20, 50) if high - low <= 6 * factor * power)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _powers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times each power of ten between them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [tick for power in powers for tick in (10.0**power, 2 * 10.0**power, 5 * 10.0**power) if low <= tick <= high]


def points(run: Record) -> list[tuple[float, float]]:
    """Step and loss of each entry of the trainer's log, at most `MOST_POINTS`: means of neighbours."""
    training: Any = read_json(run.place("train") / "training.json") if "train" in run.manifests else None
    logged = [
        (float(entry["step"]), float(entry["loss"]))
        for entry in (training or {}).get("logged") or ()
        if is_number(entry.get("step")) and is_number(entry.get("loss")) and math.isfinite(entry["loss"])
    ]
    size = math.ceil(len(logged) / MOST_POINTS) or 1
    parts = [logged[first : first + size] for first in range(0, len(logged), size)]
    return [(part[-1][0], sum(loss for _, loss in part) / len(part)) for part in parts]
