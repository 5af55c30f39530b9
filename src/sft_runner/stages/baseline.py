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
    version = 2
    reads: tuple[str, ...] = ("evaluate", "hardware.dtype", "quantization")
    inputs: tuple[str, ...] = ("prepare",)
    model = "weights"
    data = "sets"
    gpu = True
    keeps: tuple[str, ...] = ()

    def execute(self, config: Config, inputs: Mapping[str, Path], folder: Path, report: Report) -> Result:
        """Write the rows of `evaluate.sets` as token ids, `scores.json`, and for the held-out rows and each set
        `predictions.jsonl` and `statistics.npz`."""
        from sft_runner.data import sets
        from sft_runner.evaluation import scoring
        from sft_runner.model import loading

        others = sets.write(config, folder, report)
        model = loading.load_base(config)
        scored, tasks = scoring.score_all(model, config, inputs["prepare"], others, folder, report)
        found = {"base": scoring.gathered(scored, tasks)}
        scoring.write(folder, found, scored)
        files = [scoring.write_predictions(folder, name, scores.predictions) for name, scores in scored.items()]
        notes = [*sets.notes(folder, inputs["prepare"]), *scoring.left_out(scored, config.evaluate.metrics)]
        return Result(found, notes=notes, artifacts=["scores.json", *files])
