"""Several runs beside each other: what was set otherwise, what came out, and whether that can be compared at all."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sft_runner.data.report.visible import harmless
from sft_runner.report import scores
from sft_runner.report.comparable import Comparable
from sft_runner.report.pairs import Pairs
from sft_runner.report.record import Record
from sft_runner.report.verdict import verdict
from sft_runner.tracking.numbers import is_number

PASSED_OVER = ("name", "output_dir", "tracking", "stage", "dry_run", "force", "locked")
"""Settings that change no result, nor what it costs."""
_OPEN = (None, "auto")
"""Values of settings that are found from the model and the hardware before training."""
LONGEST_LABEL = 60
"""Characters of what a run is called in a picture."""
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
    same: list[str]
    """Which runs have one tuned model and its scores in common."""

    @property
    def names(self) -> list[str]:
        """The runs in a picture: by their names, else by what was set otherwise, else by their times."""
        told = [run.name for run in self.runs]
        if len(set(told)) < len(told):
            told = [self._set(place) or run.folder.name for place, run in enumerate(self.runs)]
        return [f"{letter}  {shortened(name, LONGEST_LABEL)}" for letter, name in zip(self.letters, told, strict=True)]

    def _set(self, place: int) -> str:
        """What was set otherwise in one run, in short."""
        values = {key.rpartition(".")[2]: value[place] for key, value in self.settings.items()}
        return ", ".join(f"{key} {setting(value)}" for key, value in values.items() if value is not None)


def compare(runs: Sequence[Record]) -> Comparison:
    """Put runs beside each other."""
    comparable = Comparable(runs)
    letters = [LETTERS[place] if place < len(LETTERS) else str(place + 1) for place in range(len(runs))]
    return Comparison(
        list(runs),
        letters,
        _settings(runs),
        list(_scores(runs, comparable)),
        [verdict(run).title for run in runs],
        _facts(runs),
        list(comparable.doubts()),
        list(_same(runs, letters)),
    )


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as `lora.r`; a list is one value."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def shortened(text: str, most: int) -> str:
    """A text, or as much of it as `most` characters hold."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def setting(value: Any) -> str:
    """A setting as it is written on the command line."""
    return "–" if value is None else str(value).lower() if isinstance(value, bool) else harmless(str(value))


def _settings(runs: Sequence[Record]) -> dict[str, list[Any]]:
    configs = [dict(flat(run.config)) for run in runs]
    keys = dict.fromkeys(key for config in configs for key in config if key.partition(".")[0] not in PASSED_OVER)
    parts = [key.split(".") for key in keys]
    parents = {".".join(part[:depth]) for part in parts for depth in range(len(part))}  # such as no gates at all
    columns = {key: _fitted(runs, key, [config.get(key) for config in configs]) for key in keys if key not in parents}
    return {key: values for key, values in columns.items() if any(value != values[0] for value in values)}


def _fitted(runs: Sequence[Record], key: str, values: list[Any]) -> list[Any]:
    """The values of a key. What fits the hardware stays open where training is cached: it is as it was then."""
    if not key.startswith("hardware."):
        return values
    trained = [(run.known.get("stages") or {}).get("train") for run in runs]
    known = {one: value for one, value in zip(trained, values, strict=True) if one and value not in _OPEN}
    return [known.get(one, value) if value in _OPEN else value for one, value in zip(trained, values, strict=True)]


def _scored(run: Record) -> str:
    """What identifies its tuned model with its scores; empty where it has none."""
    return str((run.known.get("stages") or {}).get("evaluate", "")) if "evaluate" in run.manifests else ""


def _same(runs: Sequence[Record], letters: Sequence[str]) -> Iterator[str]:
    """Which runs found the scores of another one."""
    by_scores: dict[str, list[str]] = {}
    for run, letter in zip(runs, letters, strict=True):
        by_scores.setdefault(_scored(run), []).append(letter)
    for scored, same in by_scores.items():
        if scored and len(same) > 1:
            yield f"{', '.join(same[:-1])} and {same[-1]}: the same model and scores"


def _scores(runs: Sequence[Record], comparable: Comparable) -> Iterator[Score]:
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
        can = comparable(part, metric)

        def better(first: int, second: int, told: bool = can and part == scores.ALL) -> scores.Value | None:
            if not told or _scored(runs[first]) == _scored(runs[second]):
                return None
            return pairs.gain(first, second, metric, lower)  # noqa: B023

        yield Score(
            part,
            metric,
            [line.base if line else None for line in row],
            tuned,
            [line.gain if line else None for line in row],
            [better(0, place) if place and tuned[place] else None for place in range(len(runs))],
            _marks(tuned, lower, better) if can else [""] * len(runs),
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
