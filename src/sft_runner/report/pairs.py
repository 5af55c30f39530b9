"""Two runs on the same rows: by how much one is better than the other, with intervals over the paired rows."""

from collections.abc import Mapping
from typing import Any

from sft_runner.report.record import Record
from sft_runner.report.scores import Value
from sft_runner.tracking.numbers import is_number

STATISTICS = "statistics.npz"
"""What the evaluate stage keeps of each row."""


class Pairs:
    """Compares runs whose held-out rows are the same, each pair once."""

    def __init__(self, runs: list[Record]) -> None:
        self.runs = runs
        self.known: dict[tuple[int, int], Mapping[str, Any]] = {}

    def gain(self, first: int, second: int, metric: str, lower: bool) -> Value | None:
        """By how much the second run's tuned model is better, where `lower` says that less is; None where no interval
        can be told."""
        if (first, second) not in self.known:
            self.known[first, second] = _intervals(self.runs[first], self.runs[second])
        ends = (self.known[first, second].get(metric) or {}).get("gain") or {}
        scores = [(run.scores.get("tuned") or {}).get(metric) for run in (self.runs[first], self.runs[second])]
        low, high = ends.get("low"), ends.get("high")
        if not (is_number(scores[0]) and is_number(scores[1]) and is_number(low) and is_number(high)):
            return None
        return Value(scores[0] - scores[1] if lower else scores[1] - scores[0], low, high)


def _intervals(first: Record, second: Record) -> Mapping[str, Any]:
    """Metric -> intervals, as the evaluate stage has them for base and tuned model; empty where rows are not kept."""
    from sft_runner.evaluation import intervals
    from sft_runner.evaluation.metrics import statistics
    from sft_runner.evaluation.metrics.metric import metrics_of

    files = [run.place("evaluate") / STATISTICS for run in (first, second)]
    asked = [run.config.get("evaluate") or {} for run in (first, second)]
    if not all(file.is_file() for file in files) or asked[0].get("pattern") != asked[1].get("pattern"):
        return {}
    try:
        names = [name for name in asked[0].get("metrics") or () if name in (asked[1].get("metrics") or ())]
        kept = [statistics.read(file) for file in files]
        shared = [{name: one[name] for name in kept[0] if name in kept[1]} for one in kept]
        return intervals.paired(shared[0], shared[1], metrics_of(names, asked[0].get("pattern")))
    except Exception:  # of another version, or a metric that is no longer installed: no interval is told
        return {}
