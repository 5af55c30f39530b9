"""What a sweep found: its jobs ranked by the headline metric, as a table, as JSON and as a picture.

Every job leaves one file in the sweep folder when it ends, so jobs may run in any process and on any machine.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sft_runner.config.schema import build
from sft_runner.disk import read_json, write_json
from sft_runner.evaluation.names import lower_is_better

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GATE_FAILED = "gate failed"
"""The state of a job whose model is trained and scored, and does not reach what `evaluate.gates` wants."""
_LOG_SCALE_FROM = 4
"""Swept values whose largest is so many times the smallest are drawn on a logarithmic axis."""
_LABEL_LENGTH = 40
"""Characters of a swept value, or of a bar's label, that are shown."""


@dataclass
class Job:
    """One run of a sweep."""

    number: int
    """Its place in the sweep, from 0."""
    overrides: list[str]
    """What was said for it: `["recipe=code", "lora.r=8"]`."""
    state: str
    """`completed`, `failed`, `cancelled`, or `gate failed`."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Flat: `tuned.exact_match`."""
    folder: str = ""
    """The run folder."""
    mlflow_run_id: str | None = None
    """MLflow's id of the run."""
    seconds: float = 0.0
    """How long it took, cached stages included."""


def write(folder: Path, job: Job) -> None:
    """Keep a job's outcome in the sweep folder."""
    (folder / "jobs").mkdir(parents=True, exist_ok=True)
    write_json(folder / "jobs" / f"{job.number:04d}.json", asdict(job))


def read(folder: Path) -> list[Job]:
    """The jobs that have ended so far, in their order."""
    found = (read_json(path) for path in (folder / "jobs").glob("*.json"))
    return sorted((build(Job, values) for values in found if values is not None), key=lambda job: job.number)


def rank(jobs: Sequence[Job], headline: str) -> list[Job]:
    """The best first: by the tuned model's headline metric, then its loss; jobs that did not complete come last."""

    lower = lower_is_better(headline)

    def order(job: Job) -> tuple[bool, float, float, int]:
        score = _value(job, f"tuned.{headline}", worst=math.inf if lower else -math.inf)
        cost = score if lower else -score
        return job.state != "completed", cost, _value(job, "tuned.loss", worst=math.inf), job.number

    return sorted(jobs, key=order)


def scored(job: Job, headline: str) -> bool:
    """Whether a job completed and has a score; after `stage=train` it has none."""
    return job.state == "completed" and f"tuned.{headline}" in job.metrics


def ranked_by(jobs: Sequence[Job], headline: str) -> str:
    """What ranks the jobs: the headline metric, or the loss where none has that, as where no row asks anything."""
    measured = [name for name in (headline, "loss") if any(scored(job, name) for job in jobs)]
    return next(iter(measured), headline)


def swept(jobs: Sequence[Job]) -> dict[str, list[str]]:
    """The keys in which the jobs differ, each with its value in every job; empty where a job does not set it."""
    said = [dict(_pair(override) for override in job.overrides) for job in jobs]
    keys = dict.fromkeys(key for pairs in said for key in pairs)
    columns = {key: [pairs.get(key, "") for pairs in said] for key in keys}
    return {key: values for key, values in columns.items() if len(set(values)) > 1}


def table(jobs: Sequence[Job], headline: str) -> str:
    """The ranking as aligned plain text."""
    ranked = rank(jobs, headline)
    columns = {"rank": _ranks(ranked, headline)}
    columns |= {key: list(map(_short, values)) for key, values in swept(ranked).items()}
    if len(columns) == 1:
        columns["job"] = [str(job.number) for job in ranked]
    for name in dict.fromkeys((f"base.{headline}", f"tuned.{headline}", "tuned.loss")):
        columns[name.replace(".", " ")] = [_shown(job.metrics.get(name)) for job in ranked]
    columns["seconds"] = [f"{job.seconds:.0f}" for job in ranked]
    columns["state"] = [job.state for job in ranked]
    widths = [max(map(len, (name, *cells))) for name, cells in columns.items()]
    rows = [list(columns), *map(list, zip(*columns.values(), strict=True))]
    lines = ("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(lines)


def save(folder: Path, jobs: Sequence[Job], headline: str) -> list[Path]:
    """Write `sweep.json`, ranked, and `sweep.png` where there is something to draw; returns what was written."""
    ranked = rank(jobs, headline)
    summary = {
        "headline": headline,
        "better": "lower" if lower_is_better(headline) else "higher",
        "swept": list(swept(ranked)),
        "jobs": [
            {"rank": int(place) if place != "-" else None, **asdict(job)}
            for place, job in zip(_ranks(ranked, headline), ranked, strict=True)
        ],
    }
    write_json(folder / "sweep.json", summary)
    measured = [job for job in ranked if scored(job, headline)]
    if not measured:
        return [folder / "sweep.json"]
    _draw(folder / "sweep.png", measured, headline, left_out=len(ranked) - len(measured))
    return [folder / "sweep.json", folder / "sweep.png"]


def _pair(override: str) -> tuple[str, str]:
    """Key and value of an override; Hydra's marks for added and removed keys are no part of the name."""
    key, _, value = override.partition("=")
    return key.lstrip("+~"), value


def _value(job: Job, name: str, worst: float) -> float:
    value = job.metrics.get(name, worst)
    return worst if math.isnan(value) else value


def _ranks(ranked: Sequence[Job], headline: str) -> list[str]:
    return [str(place) if scored(job, headline) else "-" for place, job in enumerate(ranked, start=1)]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _draw(path: Path, ranked: Sequence[Job], headline: str, left_out: int) -> None:
    """A line over the swept value where that is one number; else one bar for each job, the best on top."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    keys = swept(ranked)
    values = _numbers(next(iter(keys.values()))) if len(keys) == 1 else None
    better = "lower" if lower_is_better(headline) else "higher"
    height = 4.2 if values else 1.6 + 0.42 * len(ranked)
    with rc_context({"font.size": 11, "text.parse_math": False, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(7.5, height), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))  # inches
        axes = figure.add_subplot()
        scores = [job.metrics[f"tuned.{headline}"] for job in ranked]
        base = next((found for job in ranked if (found := job.metrics.get(f"base.{headline}")) is not None), None)
        title = f"{headline.replace('_', ' ')} of {len(ranked)} tuned models ({better} is better)"
        title += f"; {left_out} without a result" if left_out else ""
        figure.suptitle(title, x=0.02, horizontalalignment="left", fontsize=12)
        if values:
            _line(axes, next(iter(keys)), headline, values, scores, base)
        else:
            _bars(axes, headline, [_label(job, list(keys)) for job in ranked], scores, base)
        figure.savefig(path, dpi=150)


def _line(axes: "Axes", key: str, headline: str, values: list[float], scores: list[float], base: float | None) -> None:
    points = sorted(zip(values, scores, strict=True))
    axes.plot(*zip(*points, strict=True), color="C0", marker="o", markersize=6, label="tuned")
    axes.plot(values[0], scores[0], color="C1", marker="o", markersize=11, linestyle="none", label="best")
    for value, score in points:
        axes.annotate(_shown(score), (value, score), (0, 9), textcoords="offset points", ha="center", fontsize=9)
    if base is not None:
        axes.axhline(base, color="0.45", linestyle="--", label=f"base model, {_shown(base)}")
    if min(values) > 0 and max(values) >= _LOG_SCALE_FROM * min(values):
        axes.set_xscale("log")
    axes.set_xticks(sorted(set(values)), [f"{value:g}" for value in sorted(set(values))])
    axes.set_xticks([], minor=True)
    axes.margins(x=0.08, y=0.18)
    axes.set_xlabel(key)
    axes.set_ylabel(headline.replace("_", " "))
    axes.grid(axis="y", alpha=0.3)
    axes.figure.legend(loc="outside lower center", ncols=3, frameon=False)


def _bars(axes: "Axes", headline: str, labels: list[str], scores: list[float], base: float | None) -> None:
    places = range(len(labels))
    colors = ["C1", *["C0"] * (len(labels) - 1)]
    bars = axes.barh(places, scores, color=colors, height=0.62)
    axes.bar_label(bars, [_shown(score) for score in scores], padding=4, fontsize=9)
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    if base is not None:
        axes.axvline(base, color="0.45", linestyle="--", label=f"base model, {_shown(base)}")
        axes.figure.legend(loc="outside lower center", frameon=False)
    axes.margins(x=0.12)
    axes.set_xlabel(headline.replace("_", " "))
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


def _numbers(texts: list[str]) -> list[float] | None:
    """The texts as numbers, or None where one of them is not a finite number."""
    try:
        values = [float(text) for text in texts]
    except ValueError:
        return None
    return values if all(map(math.isfinite, values)) else None


def _label(job: Job, keys: list[str]) -> str:
    said = dict(_pair(override) for override in job.overrides)
    text = ", ".join(f"{key.rpartition('.')[2]}={said[key]}" for key in keys if key in said) or f"job {job.number}"
    return _short(text)


def _short(text: str) -> str:
    return text if len(text) <= _LABEL_LENGTH else f"{text[: _LABEL_LENGTH - 1]}…"
