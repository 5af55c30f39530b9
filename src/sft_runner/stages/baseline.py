"""Score the base model on the held-out rows, so that a gain can be told from a good base.

It reads nothing of the adapter or of training, so a sweep over those measures it once.
"""

from collections.abc import Mapping
from pathlib import Path

from sft_runner.config.schema import Config
from sft_runner.stages.stage import Report, Result


class Baseline:
    """The base model's own scores, in the precision that training sees it in."""

    name = "baseline"
    version = 1
    reads: tuple[str, ...] = ("evaluate", "hardware.dtype", "quantization")
    inputs: tuple[str, ...] = ("prepare",)
    model = "weights"
    data = "sets"
    gpu = True
    keeps: tuple[str, ...] = ()

    def execute(self, config: Config, inputs: Mapping[str, Path], folder: Path, report: Report) -> Result:
        """Write `scores.json` and `predictions.jsonl`."""
        from sft_runner.evaluation import scoring
        from sft_runner.model import loading

        scores = scoring.score_held_out(loading.load_base(config), config, inputs["prepare"], report)
        found = {"base": scores.metrics}
        scoring.write(folder, found, scores.predictions)
        return Result(found, artifacts=scoring.FILES)
