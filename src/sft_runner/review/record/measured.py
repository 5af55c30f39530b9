"""A finished run as a row of the table."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from pathlib import Path
from platform import node
from typing import Any

from sft_runner import hardware
from sft_runner.data.pool import cores
from sft_runner.errors import UserError
from sft_runner.evaluation import gates
from sft_runner.masking import masked
from sft_runner.report import scores
from sft_runner.report.course import seconds
from sft_runner.report.record import Record, moment
from sft_runner.review.record import cells
from sft_runner.review.record.made import STAGE
from sft_runner.review.record.table import Row
from sft_runner.tracking.numbers import is_number

LIBRARIES = ("torch", "transformers", "trl", "peft")
"""Those whose versions a row says."""
NOTHING = cells.NONE
"""What a cell says of what is not known."""
_ELSEWHERE = frozenset(
    {"recipe", "name", "output_dir", "dry_run", "force", "locked", "stage", "tracking", "hydra"},
)
"""Keys and groups that say nothing of what is measured."""
_EARLIER = frozenset({"name", "output_dir"})
"""Those that an earlier run, whose adapter is trained further, is found by."""
_FOUND = ("dtype", "quantization_bits")
"""Fields that `hardware=auto` may set otherwise than the preset that it takes, and that count."""


def row(record: Record, mark: str = "") -> Row:
    """The row of a finished run; `mark` is said behind the commit."""
    lines = {line.metric: line for line in scores.overall(record.scores, record.headline)}
    rows = scores.rests_on(record.scores).get("rows")
    found = {
        "date": date(record),
        "words": cells.said(words(record)),
        "score": NOTHING if record.headline == "loss" else _score(lines.get(record.headline)),
        "loss": _score(lines.get("loss")),
        "gates": _gates(record),
        "rows": f"{rows:,}" if rows else NOTHING,
        "time": _time(record),
        "memory": _memory(record),
        "machine": cells.plain(machine(record)),
        "fingerprint": cells.code(str(part(record.known, "stages").get(STAGE, ""))),
        "model": _model(record),
        "versions": cells.plain(_versions(record)),
        "commit": _commit(record) + mark,
    }
    return Row(found)


def require_measured(record: Record) -> None:
    """Raise `UserError` where a run has no result: it has not finished, or no tuned model was scored."""
    judged = gates.failed(gates.read({"gates": record.gates}))
    if record.state != "completed" and not judged:
        hint = "the same command goes on from where it stood; sft-runner record then writes its row"
        told = {"running": "is still running", "unknown": "says nothing of how it ended", "failed": "has failed"}
        raise UserError(f"run {record.label} {told.get(record.state, f'was {record.state}')}", _first(record) or hint)
    if STAGE not in part(record.known, "stages") or not record.scores.get("tuned"):
        raise UserError(f"run {record.label} was never evaluated", "run the same command with stage=evaluate")


def date(record: Record) -> str:
    """When a run began, in UTC, to the minute."""
    began = moment(record.known.get("started"))
    return f"{began.astimezone(UTC):%Y-%m-%d %H:%M}" if began else NOTHING


def words(record: Record) -> tuple[str, ...]:
    """What a row says of a run's command line: without secrets and without places of this machine."""
    return tuple(_private(word) for word in said(record))


def said(record: Record) -> tuple[str, ...]:
    """What was said on a run's command line, without its recipe and what says nothing of the result. The preset is
    always named, so that the row is of this machine and not of whichever looks."""
    settings = part(record.config, "hardware")
    preset = str(settings.get("name") or part(record.known, "choices").get("hardware") or "auto")
    overrides = record.known.get("overrides")
    goes_on = part(record.config, "train").get("continue_from") is not None
    dropped = _ELSEWHERE - _EARLIER if goes_on else _ELSEWHERE
    kept = [word for word in map(str, overrides if isinstance(overrides, list) else ()) if _part(word) not in dropped]
    chosen = [word for word in kept if _key(word) == "hardware"]
    found = [f"hardware={preset}"] if not chosen or chosen[-1] == "hardware=auto" else chosen[-1:]
    if settings.get("chosen"):
        found += _found(preset, settings, {_key(word) for word in kept})
    return (*found, *(word for word in kept if _key(word) != "hardware"))


def machine(record: Record) -> str:
    """The card, or the CPU with its cores where the run was on this machine; never its name in a network."""
    settings = part(record.config, "hardware")
    here = record.known.get("host") == node()
    if not settings.get("memory_gb"):
        return f"CPU, {cores()} core{'' if cores() == 1 else 's'}" if here else "CPU"
    if chosen := str(settings.get("chosen") or ""):
        return ", ".join(chosen.split(", ")[:2])  # NVIDIA GeForce RTX 3060, 12 GB
    try:
        found = hardware.cards() if here else []
    except hardware.NotAsked:
        found = []
    if found:
        return f"{found[0].name}, {found[0].memory_gb:.0f} GB"
    return f"{settings.get('name') or 'card'}, {float(settings['memory_gb']):.0f} GB"


def part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A mapping inside of another one; empty where it is none, as in a file that somebody changed."""
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def _first(record: Record) -> str:
    """Why a run failed, in a line."""
    return record.error.splitlines()[0] if record.error else ""


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _part(word: str) -> str:
    """The first part of a word's key: `tracking` of `tracking.mlflow.uri=...`."""
    return re.split(r"[./@]", _key(word), maxsplit=1)[0]


def _found(preset: str, settings: Mapping[str, Any], keys: set[str]) -> Iterator[str]:
    """Words for what `hardware=auto` set otherwise than the preset's file."""
    from sft_runner.config.sources import choice

    file = choice("hardware", preset)
    for name in _FOUND:
        value = settings.get(name)
        if file and file.values and f"hardware.{name}" not in keys and value not in (None, file.values.get(name)):
            yield f"hardware.{name}={value}"


def _private(word: str) -> str:
    """A word without secrets and without the places of this machine: paths in the project are relative to it."""
    key, sign, value = masked(word).partition("=")
    for place, short in ((f"{Path.cwd()}{os.sep}", ""), (f"{Path.home()}{os.sep}", "~/")):
        if len(place) > 2:
            value = value.replace(place, short)
    return key + sign + value


def _score(line: scores.Line | None) -> str:
    """Base and tuned value of a metric, and the gain, with the intervals of the last two."""
    if line is None or line.tuned is None:
        return NOTHING
    metric, tuned = line.metric, line.tuned
    low, high = (scores.shown(metric, end) for end in (tuned.low, tuned.high))
    text = f"{scores.shown(metric, line.base.number)} → " if line.base else ""
    text += scores.shown(metric, tuned.number) + (f" ({low} to {high})" if tuned.low is not None else "")
    if line.gain:
        text += f"; gain {scores.shown_gain(metric, line.gain.number)}"
        text += f" ({scores.shown_interval(metric, line.gain)})" if line.gain.low is not None else ""
    return cells.plain(text if metric == "loss" else f"{scores.words(metric)} {text}")


def _gates(record: Record) -> str:
    """What came of the limits: a model that misses one is never told as a success."""
    found = gates.read({"gates": record.gates})
    missed = gates.failed(found)
    if not found:
        return "none set"
    what = f"**failed** {len(missed)}" if missed else f"passed {len(found)}"
    return f"{what} of {len(found)}: {cells.plain('; '.join(map(str, missed or found)))}"


def _time(record: Record) -> str:
    """Of the training, and of the whole run: of its stages where some of them were there already."""
    train = record.metrics("train").get("seconds")
    done = [manifest.get("seconds") for name, manifest in record.manifests.items() if name != "serve"]
    stages: Sequence[float] = [float(value) for value in done if is_number(value)]
    steps = record.plan.get("steps") or ()
    first_time = steps and all(step.get("action") == "run" for step in steps)
    stays = part(record.config, "stage").get("stay")
    whole = record.seconds if first_time and not stays else sum(stages) or None
    parts = (f"train {seconds(train)}" if is_number(train) else "", f"whole {seconds(whole)}" if whole else "")
    return ", ".join(filter(None, parts)) or NOTHING


def _memory(record: Record) -> str:
    peak = record.metrics("train").get("peak_memory_gb")
    return f"{peak:.3g} GB" if is_number(peak) else NOTHING


def _model(record: Record) -> str:
    """Its name, and what stands for its files."""
    name = _private(str(part(record.config, "model").get("name") or ""))
    content = str((record.manifests.get(STAGE) or {}).get("model") or "")
    return " ".join(filter(None, (cells.plain(name), cells.code(content[:12]) if content else ""))) or NOTHING


def _versions(record: Record) -> str:
    known = part(record.manifests.get(STAGE) or {}, "versions")
    found = (f"{name} {str(known[name]).partition('+')[0]}" for name in LIBRARIES if name in known)
    return ", ".join(found) or NOTHING


def _commit(record: Record) -> str:
    """The commit that the recipe stood at, and whether something there was changed since."""
    known = part(record.known, "recipe")
    if not known.get("commit"):
        return NOTHING
    return cells.code(str(known["commit"])[:12]) + (", changed" if known.get("changed") else "")
