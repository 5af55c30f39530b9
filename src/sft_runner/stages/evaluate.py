"""Score the tuned model on the rows and with the code that scored the base alone.

An adapter is not merged yet: a sweep ranks its runs before it merges one, and merge proves that both are the same.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config
from sft_runner.stages.stage import Report, Result


class Evaluate:
    """Base and tuned model side by side."""

    name = "evaluate"
    version = 1
    reads: tuple[str, ...] = ("evaluate", "hardware.dtype", "quantization", "adapter")
    inputs: tuple[str, ...] = ("prepare", "baseline", "train")
    model = "weights"
    data = ""
    gpu = True
    keeps: tuple[str, ...] = ()

    def execute(self, config: Config, inputs: Mapping[str, Path], folder: Path, report: Report) -> Result:
        """Write `scores.json` and `predictions.jsonl`, in which both models' answers stand beside each other."""
        from sft_runner.evaluation import scoring
        from sft_runner.model import loading

        model = loading.load_tuned(config, inputs["train"])
        tuned = scoring.score_held_out(model, config, inputs["prepare"], report)
        base = json.loads((inputs["baseline"] / "scores.json").read_text(encoding="utf-8"))["base"]
        with open(inputs["baseline"] / "predictions.jsonl", encoding="utf-8") as file:
            answered = [json.loads(line) for line in file]
        found = {"base": base, "tuned": tuned.metrics, "gain": scoring.gain(base, tuned.metrics)}
        scoring.write(folder, found, map(_beside, answered, tuned.predictions))
        return Result(found, artifacts=scoring.FILES)


_SHARED = ("source", "origin", "kind", "prompt", "expected", "tokens")


def _beside(base: dict[str, Any], tuned: dict[str, Any]) -> dict[str, Any]:
    """One row's predictions by both models: what they share once, the rest below `base` and `tuned`."""
    shared = {key: tuned[key] for key in _SHARED if key in tuned}
    own = ({key: value for key, value in row.items() if key not in _SHARED} for row in (base, tuned))
    return shared | dict(zip(("base", "tuned"), own, strict=True))
