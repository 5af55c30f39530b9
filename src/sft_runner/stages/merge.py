"""Merge the adapter into the original base, and prove on real rows that nothing else changed.

The base is read as it is stored, also where training saw it quantized: that model is what can be served anywhere.
"""

import gc
from collections.abc import Mapping
from pathlib import Path

from sft_runner.config.schema import Config
from sft_runner.data.prepared import HELD_OUT, TRAIN
from sft_runner.errors import DataError
from sft_runner.stages.stage import Report, Result


class Merge:
    """A whole model in `model/`, and `proof.json`."""

    name = "merge"
    version = 1
    reads: tuple[str, ...] = ("merge", "quantization")
    inputs: tuple[str, ...] = ("prepare", "train")
    model = "weights"
    data = False
    gpu = True
    keeps: tuple[str, ...] = ()

    def execute(self, config: Config, inputs: Mapping[str, Path], folder: Path, report: Report) -> Result:
        """Load base and adapter once for the expected logits and the merge, then the merged model from disk."""
        from sft_runner.disk import write_json
        from sft_runner.model import files, merging
        from sft_runner.model.rows import first_rows

        prepared, limit = inputs["prepare"], config.merge.verify_rows
        rows = first_rows(prepared / HELD_OUT, limit) or first_rows(prepared / TRAIN, limit)
        if rows is None:
            raise DataError("data.path: no row was prepared to verify the merge on", "give more rows")
        base = files.require(config.model)
        device = merging.place(config, base)
        report(step=0, steps=3, message="logits of base and adapter")
        adapted = merging.load_adapted(base, inputs["train"] / "adapter", device)
        expected = merging.answer_logits(adapted, rows)
        report(step=1, steps=3, message="merge")
        change = merging.merge(adapted, base, folder / "model")
        template = prepared / merging.CHAT_TEMPLATE
        if template.is_file():
            merging.set_chat_template(template, folder / "model")
        del adapted
        gc.collect()  # PEFT's layers refer to each other; the weights must go before the merged model comes
        report(step=2, steps=3, message="logits of the merged model")
        difference = merging.verify(folder / "model", expected, rows, config.merge.tolerance, device)
        bits = config.quantization.bits
        found = {
            "difference": vars(difference),
            "rows": len(rows),
            "positions": sum(len(logits) for logits in expected),
            **vars(change),
            "trained_on": config.hardware.dtype if bits == "none" else f"{bits}-bit",
        }
        write_json(folder / "proof.json", found)
        report(step=3, steps=3, message="verified")
        return Result(found, artifacts=["proof.json"])
