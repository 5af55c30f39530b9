"""Score the tuned model on the rows and with the code that scored the base alone.

An adapter is not merged yet: a sweep ranks its runs before it merges one, and merge proves that both are the same.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import Config
from sft_runner.stages.stage import Report, Result

if TYPE_CHECKING:
    from sft_runner.evaluation.metrics.statistics import Statistics


class Evaluate:
    """Base and tuned model side by side."""

    name = "evaluate"
    version = 2
    reads: tuple[str, ...] = ("evaluate", "hardware.dtype", "quantization", "adapter")
    inputs: tuple[str, ...] = ("prepare", "baseline", "train")
    model = "weights"
    data = ""
    gpu = True
    keeps: tuple[str, ...] = ()

    def execute(self, config: Config, inputs: Mapping[str, Path], folder: Path, report: Report) -> Result:
        """Write `scores.json`, and for the held-out rows and each set `predictions.jsonl`, in which both models'
        answers stand beside each other, and `statistics.npz`."""
        from sft_runner.data import sets
        from sft_runner.evaluation import intervals, scoring
        from sft_runner.evaluation.metrics import statistics
        from sft_runner.evaluation.metrics.metric import metrics_of
        from sft_runner.model import loading

        baseline, asked = inputs["baseline"], config.evaluate
        others = sets.written(baseline)
        model = loading.load_tuned(config, inputs["train"])
        scored, tasks = scoring.score_all(model, config, inputs["prepare"], others, folder, report, inputs["train"])
        base = json.loads((baseline / "scores.json").read_text(encoding="utf-8"))["base"]
        tuned = scoring.gathered(scored, tasks)
        found = {"base": base, "tuned": tuned, "gain": scoring.gain(base, tuned)}
        metrics, files, between = metrics_of(asked.metrics, asked.pattern), [], {}
        for name, scores in scored.items():
            report(message=f"intervals{f' of {name}' if name else ''}")
            earlier = statistics.read(baseline / scoring.statistics_file(name))
            between[name] = intervals.with_parts(earlier, scores.statistics, metrics, scores.groups)
            pairs = zip(scoring.read_predictions(baseline, name), scores.predictions, strict=True)
            files.append(scoring.write_predictions(folder, name, (_beside(*pair) for pair in pairs)))
        found["intervals"] = between.pop(scoring.HELD_OUT) | ({scoring.SETS: between} if between else {})
        scoring.write(folder, found, scored)
        notes = _doubt(asked.headline, found, scored[scoring.HELD_OUT].statistics)
        return Result(found, notes=notes, artifacts=["scores.json", *files])


_SHARED = ("source", "origin", "kind", "prompt", "expected", "tokens")


def _beside(base: dict[str, Any], tuned: dict[str, Any]) -> dict[str, Any]:
    """One row's predictions by both models: what they share once, the rest below `base` and `tuned`."""
    shared = {key: tuned[key] for key in _SHARED if key in tuned}
    own = ({key: value for key, value in row.items() if key not in _SHARED} for row in (base, tuned))
    return shared | dict(zip(("base", "tuned"), own, strict=True))


def _doubt(headline: str, found: Mapping[str, Any], added: "Statistics") -> list[str]:
    """The sentence that is due where so few rows do not tell which model is better."""
    from sft_runner.evaluation.intervals import LEAST
    from sft_runner.evaluation.metrics.statistics import counted

    gained = found["gain"].get(headline)
    if gained is None:
        return []
    rows = int(counted(added[headline]).sum())
    many = f"{rows:,} row{'s' if rows > 1 else ''}"
    ends = found["intervals"].get(headline, {}).get("gain")
    if ends and not ends["low"] <= 0 <= ends["high"]:
        return []
    if ends:
        between = f"95 % interval {ends['low']:.3g} to {ends['high']:.3g}"
        return [f"{headline}: no difference can be told on {many} (gain {gained:.3g}, {between})"]
    if rows < LEAST:
        return [f"{headline}: {many} {'are' if rows > 1 else 'is'} too few for an interval (gain {gained:.3g})"]
    return [f"{headline}: the gain of {gained:.3g} has no interval: it is the same however {many} are drawn"]
