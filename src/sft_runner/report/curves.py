"""Loss curves of several runs on common axes. Geometry in the units of the picture's view box."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sft_runner.disk import read_json
from sft_runner.report.record import Record
from sft_runner.report.ticks import powers, rounded
from sft_runner.store import EVENTS
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
    width: float = WIDTH
    """Of the part with curves."""
    height: float = HEIGHT
    """Its height."""


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
    ticks = powers(low, high) if logarithmic else rounded(low, high)
    steps = [(round(step / last * WIDTH, 1), f"{step:,.0f}") for step in rounded(0.0, last) if step.is_integer()]
    return Curves(drawn, steps, [(height(tick), f"{tick:.3g}") for tick in ticks], logarithmic)


def points(run: Record) -> list[tuple[float, float]]:
    """Step and loss of each entry of the trainer's log, at most `MOST_POINTS`: means of neighbours.

    Of a training that ended before its end they are what it told until then.
    """
    training: Any = read_json(run.place("train") / "training.json")
    entries = training.get("logged") or () if isinstance(training, Mapping) else _told(run)
    by_step = {
        float(entry["step"]): float(entry["loss"])
        for entry in entries
        if is_number(entry.get("step")) and is_number(entry.get("loss")) and math.isfinite(entry["loss"])
    }  # a training that went on tells some steps again
    logged = sorted(by_step.items())
    size = math.ceil(len(logged) / MOST_POINTS) or 1
    parts = [logged[first : first + size] for first in range(0, len(logged), size)]
    return [(part[-1][0], sum(loss for _, loss in part) / len(part)) for part in parts]


def _told(run: Record) -> list[Mapping[str, Any]]:
    """The events of a training, as far as they were written whole."""
    try:
        lines = (run.place("train") / EVENTS).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:  # it was killed in the middle of a line
            continue
        if isinstance(event, Mapping):
            found.append(event)
    return found
