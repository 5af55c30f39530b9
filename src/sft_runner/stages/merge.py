"""One whole model from what training left, and the proof on real rows that it is the one that was trained.

An adapter is merged into the base as it is stored, also where training saw it quantized: that model is what can be
served anywhere. A model that was trained whole is carried over. Never more than one model is in memory.
"""

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config
from sft_runner.stages.stage import Report, Result


class Merge:
    """A whole model in `model/`, and `proof.json`."""

    name = "merge"
    version = 1
    reads: tuple[str, ...] = ("merge", "quantization", "adapter")
    inputs: tuple[str, ...] = ("prepare", "train")
    model = "weights"
    data = ""
    gpu = True
    keeps: tuple[str, ...] = ()

    def execute(self, config: Config, inputs: Mapping[str, Path], folder: Path, report: Report) -> Result:
        """Prove what training wrote, make a whole model of it, and prove that as it is read back from disk."""
        from sft_runner.disk import write_json
        from sft_runner.merging import proof
        from sft_runner.merging import whole as merging
        from sft_runner.model import files

        settings, whole = config.merge, config.adapter == "none"
        rows = proof.proving_rows(inputs["prepare"], settings.verify_rows)
        base = files.require(config.model)
        device, own_code = merging.place(config, base), files.locate(config.model).own_code
        report(step=0, steps=3, message="logits of the trained model" if whole else "logits of base and adapter")
        trained = inputs["train"] / ("model" if whole else "adapter")
        found: dict[str, Any] = {}
        model = (
            merging.load_stored(trained, device, own_code)
            if whole
            else merging.load_adapted(base, trained, device, own_code)
        )
        if kept := proof.kept(inputs["train"]):
            found["trained"] = vars(proof.verify_trained(model, kept, inputs["prepare"], settings.tolerance))
        expected = proof.answer_logits(model, rows)
        report(step=1, steps=3, message="copy" if whole else "merge")
        if whole:
            change = merging.carry(trained, base, folder / "model")
        else:
            change = merging.merge(model, base, folder / "model")
        template = inputs["prepare"] / merging.CHAT_TEMPLATE
        if template.is_file():
            merging.set_chat_template(template, folder / "model")
        del model
        gc.collect()  # PEFT's layers refer to each other; the weights must go before the merged model comes
        report(step=2, steps=3, message="logits of the merged model")
        difference = proof.verify(folder / "model", expected, rows, settings.tolerance, device, own_code)
        found |= {
            "difference": vars(difference),
            "rows": len(rows),
            "positions": sum(len(logits) for logits in expected),
            **vars(change),
            "trained_on": _trained_on(config),
        }
        write_json(folder / "proof.json", found)
        report(step=3, steps=3, message="verified")
        return Result(found, artifacts=["proof.json"])


def _trained_on(config: Config) -> str:
    """How the base was stored while it was trained on."""
    if config.adapter == "none":
        return config.hardware.trained_dtype
    bits = config.quantization.bits
    return config.hardware.dtype if bits == "none" else f"{bits}-bit"
