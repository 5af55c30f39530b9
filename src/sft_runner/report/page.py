"""The report of a run as one HTML page, which needs nothing from elsewhere and runs no script.

Each part is made by itself: one that cannot be made, such as of a manifest from another version, is named in its place
and takes nothing else with it.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.data.report import reasons
from sft_runner.data.report.numbers import equation
from sft_runner.page import environment
from sft_runner.report import course, examples, exports, proofs, recipe, scores
from sft_runner.report.curves import Curves, curves
from sft_runner.report.dots import Picture, picture
from sft_runner.report.record import Record
from sft_runner.report.verdict import gates, verdict

if TYPE_CHECKING:
    from markupsafe import Markup

CURVE = "loss.svg"
"""The picture that the train stage leaves."""
_MOST_PICTURES = 6
"""Metrics of benchmarks that are drawn; the table has all."""


@dataclass(frozen=True)
class Part:
    """A part of the page."""

    values: Any
    """What its template draws; None where it could not be made."""
    problem: str = ""
    """Why it could not be made."""


def parts(record: Record) -> dict[str, Part]:
    """Everything that a report tells, by name; HTML and Markdown draw the same."""
    makers: dict[str, Callable[[Record], Any]] = {
        "verdict": verdict,
        "gates": gates,
        "recipe": _recipe,
        "stages": course.stages,
        "figures": course.figures,
        "data": _data,
        "curve": _curve,
        "scores": _scores,
        "examples": _examples,
        "proofs": _proofs,
        "exports": exports.exports,
        "versions": _versions,
    }
    return {name: _made(maker, record) for name, maker in makers.items()}


def page(record: Record, made: Mapping[str, Part]) -> str:
    """The whole page. All text is escaped but for the loss curve, which the program drew itself."""
    templates = environment(Path(__file__).parent)
    templates.filters |= {
        "number": "{:,}".format,
        "shown": lambda value, metric: scores.shown(metric, value.number if value else None),
        "gain": lambda value, metric: scores.shown_gain(metric, value.number if value else None),
        "interval": lambda value, metric: scores.shown_interval(metric, value),
        "words": scores.words,
        "counted": course.counted,
    }
    return templates.get_template("page.html.jinja").render(record=record, parts=made, subtitle=subtitle(record))


def subtitle(record: Record) -> str:
    """What was run, when, and how long it took."""
    began = str(record.known.get("started") or "")[:16].replace("T", " ")
    took = course.seconds(record.seconds)
    told = [str(record.plan.get("title") or ""), began, f"took {took}" if took else ""]
    return " · ".join(filter(None, told))


def problems(made: Mapping[str, Part]) -> list[str]:
    """The parts that could not be made, and why."""
    return [f"{name}: {part.problem}" for name, part in made.items() if part.problem]


def _made(maker: Callable[[Record], Any], record: Record) -> Part:
    try:
        return Part(maker(record))
    except Exception as error:  # a report must never fail for one of its parts
        return Part(None, f"{type(error).__name__}: {error}")


def _recipe(record: Record) -> dict[str, Any]:
    place, text = recipe.text(record)
    return {
        "place": place,
        "text": text,
        "command": recipe.command(record),
        "decisions": recipe.decisions(record),
        "warnings": [str(one) for one in record.plan.get("warnings") or ()],
    }


def _data(record: Record) -> dict[str, Any]:
    """What became of the rows; empty where they are not prepared."""
    metrics = record.metrics("prepare")
    if not metrics:
        return {}
    rows, tokens = metrics["rows"], metrics.get("tokens") or {}
    dropped = [
        (name.replace("_", " "), count, reasons.dropped(name))
        for name, count in sorted(rows["dropped"].items(), key=lambda item: -item[1])
        if count
    ]
    page = record.place("prepare") / "report.html"
    return {
        "equation": equation(rows),
        "dropped": dropped,
        "tokens": tokens,
        "sources": [one for one in record.manifests["prepare"].get("datasets") or () if isinstance(one, Mapping)],
        "link": os.path.relpath(page, record.folder) if page.is_file() else "",
    }


def _curve(record: Record) -> "Markup | Curves | str":
    """The loss over the steps: the picture of the train stage, or of a training that did not end what it told; empty
    where nothing was trained."""
    from markupsafe import Markup

    path = record.place("train") / CURVE
    if "train" not in record.manifests or not path.is_file():
        return curves([record], ["training"]) or ""
    text = path.read_text(encoding="utf-8")
    if re.search(r"<script|\bon\w+\s*=|(?:href|src)\s*=\s*[\"'](?!#)", text, re.IGNORECASE):
        return ""  # not the picture that the stage drew
    return Markup(text)


def _scores(record: Record) -> dict[str, Any]:
    found = record.scores
    lines = scores.overall(found, record.headline)
    parts = {
        "Sources and kinds of held-out rows": scores.groups(found),
        "Other sets": scores.sets(found),
        "Benchmarks": scores.benchmarks(found),
    }
    return {
        "lines": lines,
        "rests_on": scores.rests_on(found),
        "pictures": [picture(line.metric, [_named(scores.words(line.metric), line)]) for line in lines],
        "parts": [(title, own, list(_pictures(own, record.headline))) for title, own in parts.items() if own],
    }


def _pictures(lines: list[scores.Line], headline: str) -> Iterator[tuple[str, Picture]]:
    """One picture a metric with a line for each part: the headline and the loss, or the metrics of benchmarks."""
    metrics = dict.fromkeys(line.metric for line in lines)
    measured = [name for name in dict.fromkeys((headline, "loss")) if name in metrics]
    wanted = measured if "loss" in metrics else list(metrics)[:_MOST_PICTURES]
    for metric in wanted:
        yield metric, picture(metric, [_named(line.part, line) for line in lines if line.metric == metric])


def _named(label: str, line: scores.Line) -> Any:
    return label, [("source", "base model", line.base), ("train", "tuned", line.tuned)]


def _examples(record: Record) -> dict[str, Any]:
    path = record.place("evaluate") / "predictions.jsonl"
    if "evaluate" not in record.manifests or not path.is_file():
        return {"rows": []}
    rows, kinds = examples.choose(path, record.headline)
    searched = sum(kinds.values())
    of = max(scores.rests_on(record.scores).get("rows", 0), searched)
    return {"rows": rows, "kinds": kinds, "searched": searched, "of": of, "by": scores.words(record.headline)}


def _proofs(record: Record) -> dict[str, Any]:
    return {"proofs": proofs.proofs(record), "missing": proofs.missing(record), "asked": proofs.asked(record)}


def _versions(record: Record) -> dict[str, Any]:
    """Versions and machine of each stage, where they differ named by stage; and what makes the run come out again."""
    versions: dict[str, dict[str, list[str]]] = {}
    for stage, manifest in record.manifests.items():
        for package, version in (manifest.get("versions") or {}).items():
            versions.setdefault(str(package), {}).setdefault(str(version), []).append(stage)
    every = {package: len(found) == 1 for package, found in versions.items()}
    train = record.manifests.get("train") or {}
    hosts = dict.fromkeys(str(manifest.get("host") or "") for manifest in record.manifests.values())
    return {
        "versions": {
            package: ", ".join(
                version if every[package] else f"{version} ({', '.join(where)})" for version, where in found.items()
            )
            for package, found in versions.items()
        },
        "hosts": ", ".join(filter(None, hosts)),
        "hardware": (record.config.get("hardware") or {}).get("name") or "",
        "model": (record.config.get("model") or {}).get("name") or "",
        "commit_of_model": str(train.get("model") or (record.manifests.get("prepare") or {}).get("model") or ""),
        "bytes_of_data": str((record.manifests.get("prepare") or {}).get("data") or ""),
        "commit": recipe.commit(record),
        "fingerprints": dict(record.known.get("stages") or {}),
        "seeds": {key: (record.config.get(key) or {}).get("seed") for key in ("data", "train")},
        "mlflow": str(record.known.get("mlflow_run_id") or ""),
    }
