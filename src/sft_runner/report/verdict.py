"""What a reader wants to know first: may it be served, why not, and how much better it is."""

from collections.abc import Callable
from dataclasses import dataclass

from sft_runner.evaluation import gates as judged
from sft_runner.evaluation.verdict import Verdict as Judged
from sft_runner.report import scores
from sft_runner.report.course import counted
from sft_runner.report.record import Record


@dataclass(frozen=True)
class Verdict:
    """The first lines of a report."""

    kind: str
    """`fit`, `unfit` or `open`."""
    title: str
    """In a few words."""
    text: str
    """The sentence below it."""
    headline: list[tuple[str, str, str]]
    """Number, what it is, and the colour: base, tuned, gain with its interval."""


@dataclass(frozen=True)
class Gate:
    """One limit."""

    name: str
    """The metric, behind a set's or a group's name."""
    limit: str
    """`min`, `max`, `min_gain` or `max_ratio`."""
    wanted: str
    """The limit as text."""
    found: str
    """What was measured."""
    interval: str
    """Its 95 % interval; empty where there is none."""
    passed: bool
    """Whether it is met."""
    margin: str
    """By how much it is met or missed."""


def verdict(record: Record) -> Verdict:
    """The verdict on a run, from its state, its gates and its scores."""
    lines = scores.overall(record.scores, record.headline)
    line = lines[0] if lines and lines[0].tuned else None
    kind, title, text = _judged(record, line)
    return Verdict(kind, title, text, _headline(line, record))


def gates(record: Record) -> list[Gate]:
    """Every limit of `evaluate.gates`, the missed ones first."""
    found = [_gate(one) for one in judged.read({"gates": record.gates})]
    return sorted(found, key=lambda gate: gate.passed)


def _judged(record: Record, line: scores.Line | None) -> tuple[str, str, str]:
    missed = [gate for gate in gates(record) if not gate.passed]
    if missed:
        told = "; ".join(
            f"{scores.words(gate.name)}{_OF.get(gate.limit, '')} {gate.found}, "
            f"wanted {_WANTED.get(gate.limit, gate.limit)} {gate.wanted}{f', {gate.margin}' if gate.margin else ''}"
            for gate in missed
        )
        return (
            "unfit",
            "Not fit to serve",
            f"{told}. {_KEPT}",
        )
    at = next((stage for stage in record.stages if stage not in record.manifests), "")
    if record.state == "failed":
        return "unfit", f"Failed at {at}" if at else "Failed", "What ran before it is below; the error says what to do."
    if record.state in _UNFINISHED:
        return _UNFINISHED[record.state]
    if record.fit is False:
        return "unfit", "Not fit to serve", _KEPT
    if not record.scores.get("tuned"):
        return "open", "Not evaluated", "Nothing is known of how good the model is: the evaluate stage did not run."
    doubt, limits = _doubt(line), len(record.gates)
    served = "" if "serve" in record.stages else " This run served nothing."
    if not limits:
        known = doubt or f"Its {scores.words(line.metric) if line else ''} is better than the base model's."
        return "open", "No gates: nobody said what is good enough", f"{known} evaluate.gates sets limits.{served}"
    passed = f"{counted(limits, 'limit')} of evaluate.gates, all met."
    if doubt:
        return "open", "Fit to serve, but not shown to be better", f"{passed} {doubt}{served}"
    return "fit", "Fit to serve", f"{passed}{served}"


def _doubt(line: scores.Line | None) -> str:
    """Why nobody may say that the model is better; empty where its gain is shown."""
    if line is None or line.gain is None:
        return "Whether it is better than the base model was not measured."
    metric = scores.words(line.metric)
    if line.verdict == "open":
        return f"On these rows no difference of its {metric} to the base model's can be told."
    if line.gain.number <= 0:
        return f"Its {metric} is {'worse than' if line.gain.number < 0 else 'the same as'} the base model's."
    return "" if line.verdict else f"The gain in {metric} has no interval: it may be chance."


def _headline(line: scores.Line | None, record: Record) -> list[tuple[str, str, str]]:
    if line is None or line.tuned is None:
        return []
    metric, rows = line.metric, scores.rests_on(record.scores).get("rows")
    what = scores.words(metric)
    found = []
    if line.base:
        found.append((scores.shown(metric, line.base.number), f"{what}, base model", "source"))
    found.append((scores.shown(metric, line.tuned.number), f"{what}, tuned", "train"))
    if line.gain:
        interval = scores.shown_interval(metric, line.gain)
        told = f"95 % interval {interval}" if interval != "–" else "gain, without an interval"
        told += f", {counted(rows, 'row')}" if rows else ""
        found.append((scores.shown_gain(metric, line.gain.number), told, "held_out"))
    return found


def _gate(one: Judged) -> Gate:
    metric = one.gate.rpartition(".")[2]
    shown = shown_at(one.limit, metric)
    worst = " at worst" if one.sure else ""
    if one.judged is None:
        missing = "not measured" if one.found is None else "no interval"
        return Gate(one.gate, one.limit, shown(one.wanted), missing, "", one.passed, "")
    by = abs(one.judged - one.wanted) if one.missed_by is None else one.missed_by
    margin = f"{'met' if one.passed else 'missed'} by {_by(one.limit, metric, by)}"
    interval = ""
    if one.interval:
        low, high = map(shown, one.interval)
        interval = f"{low.removesuffix(' points').removesuffix(' x base')} to {high}"
    return Gate(one.gate, one.limit, shown(one.wanted), shown(one.judged) + worst, interval, one.passed, margin)


def shown_at(limit: str, metric: str) -> Callable[[float], str]:
    """How the numbers of a limit are written: a ratio as it is, a gain with its sign, else as the metric."""
    if limit == "max_ratio":
        return lambda value: f"{value:.4g} x base"
    if limit == "min_gain":
        return lambda value: scores.shown_gain(metric, value)
    return lambda value: scores.shown(metric, value)


def _by(limit: str, metric: str, value: float) -> str:
    if limit == "max_ratio":
        return f"{value:.3g}"
    return scores.shown_gain(metric, value).removeprefix("+")


_WANTED = {"min": "at least", "max": "at most", "min_gain": "at least", "max_ratio": "at most"}
_OF = {"min_gain": " gain"}
_KEPT = "The model is kept; stage=serve force=[serve] serves it all the same."
_UNFINISHED = {
    "cancelled": ("unfit", "Stopped before the end", "The same command goes on from where it stood."),
    "killed": ("unfit", "Killed before the end", "The same command goes on from where it stood."),
    "running": ("open", "Still running", "What is complete so far is below."),
}
"""What to say of runs that did not come to their end."""
