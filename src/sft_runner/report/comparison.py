"""Several runs beside each other: what was set otherwise, what came out, and whether that can be compared at all."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sft_runner.report import scores
from sft_runner.report.pairs import Pairs
from sft_runner.report.record import Record
from sft_runner.report.verdict import verdict
from sft_runner.tracking.numbers import is_number

PASSED_OVER = ("name", "output_dir", "tracking", "stage", "dry_run", "force")
"""Settings that change no result, nor what it costs."""
BY_TOKENS = ("loss", "perplexity", "token_accuracy")
"""Metrics of tokens: those of two tokenizers say nothing about each other."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Score:
    """One metric in all runs."""

    part: str
    """`""` for the held-out rows, else the group's, the set's or the benchmark's name."""
    metric: str
    """The metric alone."""
    base: list[scores.Value | None]
    """Of the base model, run by run."""
    tuned: list[scores.Value | None]
    """Of the tuned model."""
    gain: list[scores.Value | None]
    """By how much it is better."""
    beside: list[scores.Value | None]
    """By how much the tuned model is better than that of the first run, on the same rows."""
    marks: list[str]
    """`*` for the best, `≈` where no difference to the best can be told, else empty; nothing is marked where the runs
    cannot be compared."""

    @property
    def name(self) -> str:
        """`exact match`, or `general: loss` for a part of the rows."""
        return f"{self.part}: {scores.words(self.metric)}" if self.part else scores.words(self.metric)


@dataclass(frozen=True)
class Comparison:
    """Everything that is shown."""

    runs: list[Record]
    """In the order they were asked for."""
    letters: list[str]
    """What they are called in the columns."""
    settings: dict[str, list[Any]]
    """The keys whose values differ, and the value of each run; None where it has none."""
    scores: list[Score]
    """Every metric that a run has."""
    verdicts: list[str]
    """What the report of each says first."""
    facts: dict[str, list[str]]
    """What else came out, as text: state, gates, seconds, memory."""
    doubts: list[str]
    """Why some numbers cannot be compared."""


def compare(runs: Sequence[Record]) -> Comparison:
    """Put runs beside each other."""
    differing = {part: len(set(found)) > 1 for part, found in _rows(runs).items()}
    tokens = len({_tokens(run) for run in runs} - {None}) > 1
    return Comparison(
        list(runs),
        [LETTERS[place] if place < len(LETTERS) else str(place + 1) for place in range(len(runs))],
        _settings(runs),
        list(_scores(runs, differing, tokens)),
        [verdict(run).title for run in runs],
        _facts(runs),
        list(_doubts(runs, differing, tokens)),
    )


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as `lora.r`; a list is one value."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _settings(runs: Sequence[Record]) -> dict[str, list[Any]]:
    configs = [dict(flat(run.config)) for run in runs]
    keys = dict.fromkeys(key for config in configs for key in config if key.partition(".")[0] not in PASSED_OVER)
    columns = {key: [config.get(key) for config in configs] for key in keys}
    return {key: values for key, values in columns.items() if any(value != values[0] for value in values)}


def _scores(runs: Sequence[Record], differing: Mapping[str, bool], tokens: bool) -> Iterator[Score]:
    """The held-out rows, then their parts, other sets and benchmarks."""
    found = []
    for run in runs:
        own = run.scores
        lines = [*scores.overall(own, run.headline), *scores.groups(own), *scores.sets(own), *scores.benchmarks(own)]
        found.append({(line.part, line.metric): line for line in lines})
    pairs = Pairs(list(runs))
    for part, metric in dict.fromkeys(key for lines in found for key in lines):
        row = [one.get((part, metric)) for one in found]
        tuned = [line.tuned if line else None for line in row]
        lower = any(scores.less_is_better(line) for line in row if line)
        same_rows = not differing.get(part.partition(":")[0], differing[scores.ALL])
        comparable = same_rows and not (tokens and metric in BY_TOKENS)

        def better(first: int, second: int, told: bool = comparable and part == scores.ALL) -> scores.Value | None:
            return pairs.gain(first, second, metric, lower) if told else None  # noqa: B023

        yield Score(
            part,
            metric,
            [line.base if line else None for line in row],
            tuned,
            [line.gain if line else None for line in row],
            [better(0, place) if place and tuned[place] else None for place in range(len(runs))],
            _marks(tuned, lower, better) if comparable else [""] * len(runs),
        )


def _marks(
    values: Sequence[scores.Value | None], lower: bool, better: Callable[[int, int], scores.Value | None]
) -> list[str]:
    """The best, and those that cannot be told from it: by the difference on the same rows, else by their intervals."""
    numbers = [value.number for value in values if value]
    if len(numbers) < 2:
        return [""] * len(values)
    best = min(numbers) if lower else max(numbers)
    winner = next(place for place, value in enumerate(values) if value and value.number == best)

    def mark(place: int, value: scores.Value | None) -> str:
        if value is None or value.number == best:
            return "*" if value else ""
        if (gain := better(place, winner)) and gain.low is not None:
            return "≈" if gain.low <= 0 else ""
        most = values[winner]
        ends = [end for one in (value, most) if one for end in (one.low, one.high) if end is not None]
        return "≈" if len(ends) == 4 and ends[0] <= ends[3] and ends[2] <= ends[1] else ""

    return [mark(place, value) for place, value in enumerate(values)]


def _facts(runs: Sequence[Record]) -> dict[str, list[str]]:
    """What else came out; lines that say nothing of any run are left out."""
    found: dict[str, list[str]] = {
        "state": [run.state for run in runs],
        "fit to serve": ["–" if run.fit is None else "yes" if run.fit else "no" for run in runs],
        "gates met": [_gates(run) for run in runs],
        "seconds of work": [_seconds(run) for run in runs],
        "seconds of training": [_number(run.metrics("train").get("seconds"), "{:,.0f}") for run in runs],
        "tokens a second": [_number(run.metrics("train").get("tokens_per_second"), "{:,.0f}") for run in runs],
        "peak memory, GB": [_number(run.metrics("train").get("peak_memory_gb"), "{:.2f}") for run in runs],
        "parameters that train": [_number(run.metrics("train").get("trainable_parameters"), "{:,}") for run in runs],
        "steps": [_number(run.metrics("train").get("steps"), "{:,}") for run in runs],
    }
    return {name: values for name, values in found.items() if any(value != "–" for value in values)}


def _gates(run: Record) -> str:
    return f"{sum(bool(gate.get('passed')) for gate in run.gates)} of {len(run.gates)}" if run.gates else "–"


def _seconds(run: Record) -> str:
    """Of all its stages, cached ones too: what it would take from nothing."""
    found = [manifest["seconds"] for manifest in run.manifests.values() if is_number(manifest.get("seconds"))]
    return f"{sum(found):,.0f}" if found else "–"


def _number(value: Any, form: str) -> str:
    return form.format(value) if is_number(value) else "–"


def _rows(runs: Sequence[Record]) -> dict[str, list[str]]:
    """Part -> what tells its rows from others, for each run that was scored: `""` are the held-out rows."""
    found: dict[str, list[str]] = {scores.ALL: []}
    for run in runs:
        for stage in ("evaluate", "baseline"):
            if stage in run.manifests:
                for path in sorted(run.place(stage).glob("predictions*.jsonl")):
                    part = path.name.removeprefix("predictions").removesuffix("jsonl").strip(".")
                    found.setdefault(part, []).append(_digest(path))
                break
    return found


def _digest(path: Any) -> str:
    """Hash of the prompts and the expected answers of a `predictions.jsonl`, in their order."""
    digest = hashlib.sha256()
    with open(path, encoding="utf-8", errors="surrogatepass") as file:
        for line in file:
            row = json.loads(line)
            pair = json.dumps([row.get("prompt"), row.get("expected")], sort_keys=True)
            digest.update(pair.encode() + b"\n")
    return digest.hexdigest()


def _tokens(run: Record) -> int | None:
    """Answer tokens that were scored: another tokenizer makes another number of them of the same rows."""
    return scores.rests_on(run.scores).get("tokens")


def _doubts(runs: Sequence[Record], differing: Mapping[str, bool], tokens: bool) -> Iterator[str]:
    for part, differs in differing.items():
        if differs:
            yield f"{f'the rows of {part}' if part else 'the held-out rows'} differ: scores on them cannot be compared"
    if tokens and not differing[scores.ALL]:
        names = ", ".join(scores.words(name) for name in BY_TOKENS)
        yield f"the same rows are other tokens in some runs: {names} cannot be compared, bits per byte can"
    for run in runs:
        if not run.scores.get("tuned"):
            yield f"{run.label} has no scores of a tuned model: {verdict(run).title.lower()}"
        elif "evaluate" not in run.manifests:
            yield f"{run.label}: its stage folders are gone, so its rows cannot be checked"
