"""A finished run as a row of the table."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC
from typing import Any

from sft_runner.config.words import key_of
from sft_runner.errors import UserError
from sft_runner.evaluation import gates
from sft_runner.report import scores
from sft_runner.report.course import seconds
from sft_runner.report.record import Record, moment
from sft_runner.review.cases import ELSEWHERE, private, telling
from sft_runner.review.record import cells
from sft_runner.review.record.made import STAGE
from sft_runner.review.record.table import Row
from sft_runner.tracking.numbers import is_number

LIBRARIES = ("torch", "transformers", "trl", "peft")
"""Those whose versions a row says."""
NOTHING = cells.NONE
"""What a cell says of what is not known."""
_EARLIER = frozenset({"name", "output_dir"})
"""Those that an earlier run, whose adapter is trained further, is found by."""
_FOUND = ("dtype", "quantization_bits")
"""Fields that `hardware=auto` may set otherwise than the preset that it takes, and that count."""


def row(record: Record, marks: Iterable[str] = ()) -> Row:
    """The row of a finished run; `marks` are said behind the commit."""
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
        "commit": ", ".join([_commit(record), *marks]),
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
    return tuple(map(private, said(record)))


def said(record: Record) -> tuple[str, ...]:
    """What was said on a run's command line, without its recipe and what says nothing of the result. The preset is
    always named, so that the row is of this machine and not of whichever looks."""
    settings = part(record.config, "hardware")
    preset = str(settings.get("name") or part(record.known, "choices").get("hardware") or "auto")
    overrides = record.known.get("overrides")
    goes_on = part(record.config, "train").get("continue_from") is not None
    dropped = ELSEWHERE - _EARLIER if goes_on else ELSEWHERE
    kept = telling(map(str, overrides if isinstance(overrides, list) else ()), dropped)
    chosen = [word for word in kept if key_of(word) == "hardware"]
    found = [f"hardware={preset}"] if not chosen or chosen[-1] == "hardware=auto" else chosen[-1:]
    if settings.get("chosen"):
        found += _found(preset, settings, {key_of(word) for word in kept})
    return (*found, *(word for word in kept if key_of(word) != "hardware"))


def machine(record: Record) -> str:
    """The card, or the CPU with its cores, as the run found them; never its name in a network."""
    settings, found = part(record.config, "hardware"), part(record.known, "machine")
    if not settings.get("memory_gb"):
        cores = found.get("cores")
        return f"CPU, {cores} core{'' if cores == 1 else 's'}" if cores else "CPU"
    if is_number(memory := found.get("card_memory_gb")):
        return f"{found.get('card')}, {memory:.0f} GB"
    if chosen := str(settings.get("chosen") or ""):
        return ", ".join(chosen.split(", ")[:2])  # NVIDIA GeForce RTX 3060, 12 GB
    return f"{settings.get('name') or 'card'}, {float(settings['memory_gb']):.0f} GB"


def model_name(record: Record) -> str:
    """The base model, without places of this machine."""
    return private(str(part(record.config, "model").get("name") or "")).replace("\n", " ")


def part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A mapping inside of another one; empty where it is none, as in a file that somebody changed."""
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def _first(record: Record) -> str:
    """Why a run failed, in a line."""
    return record.error.splitlines()[0] if record.error else ""


def _found(preset: str, settings: Mapping[str, Any], keys: set[str]) -> Iterator[str]:
    """Words for what `hardware=auto` set otherwise than the preset's file."""
    from sft_runner.config.sources import choice

    file = choice("hardware", preset)
    for name in _FOUND:
        value = settings.get(name)
        if file and file.values and f"hardware.{name}" not in keys and value not in (None, file.values.get(name)):
            yield f"hardware.{name}={value}"


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
    """Of the training, and of the whole run: of its stages where some of them were there already. Training that was
    resumed took longer than its stage's last process."""
    train = record.metrics("train").get("seconds")
    done = {name: manifest.get("seconds") for name, manifest in record.manifests.items() if name != "serve"}
    stages = {name: float(value) for name, value in done.items() if is_number(value)}
    if is_number(train):
        stages["train"] = max(float(train), stages.get("train", 0.0))
    steps = record.plan.get("steps") or ()
    first_time = steps and all(step.get("action") == "run" for step in steps)
    stays = part(record.config, "stage").get("stay")
    whole = record.seconds if first_time and not stays else sum(stages.values()) or None
    parts = (f"train {seconds(train)}" if is_number(train) else "", f"whole {seconds(whole)}" if whole else "")
    return ", ".join(filter(None, parts)) or NOTHING


def _memory(record: Record) -> str:
    peak = record.metrics("train").get("peak_memory_gb")
    return f"{peak:.3g} GB" if is_number(peak) else NOTHING


def _model(record: Record) -> str:
    """Its name, and what stands for its files."""
    name = model_name(record)
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
