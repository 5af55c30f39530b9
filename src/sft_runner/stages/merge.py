"""One whole model from what training left, and the proofs that it is the one that was trained.

An adapter is merged into the base as it is stored, or where training saw it quantized into whichever of the two is
better on held-out rows. A model that was trained whole is carried over. Never more than one model is in memory.
"""

import gc
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config
from sft_runner.stages.stage import Report, Result

CHECKED_ROWS = 100
"""Rows whose prompts are rendered again with the merged model's tokenizer."""
PATIENCE = 2.0
"""Seconds between two reports of how many tensors are proven."""


class Merge:
    """A whole model in `model/`, and `proof.json`."""

    name = "merge"
    version = 2
    reads: tuple[str, ...] = ("merge", "quantization", "adapter")
    inputs: tuple[str, ...] = ("prepare", "train")
    model = "weights"
    data = ""
    gpu = True
    keeps: tuple[str, ...] = ()

    def execute(self, config: Config, inputs: Mapping[str, Path], folder: Path, report: Report) -> Result:
        """Merge, and prove the adapter, what training wrote, the weights, the prompts and the logits, in this order.

        Raises `StageFailed` at the first proof that fails, whose first words name it.
        """
        from sft_runner.disk import write_json

        work = _Work(config, inputs["prepare"], inputs["train"], folder / "model", report)
        found = work.carry_over() if config.adapter == "none" else work.merge_adapter()
        write_json(folder / "proof.json", found)
        return Result(found, notes=work.notes, artifacts=["proof.json"])


@dataclass
class _Work:
    """One merge: its places, and what a person should read."""

    config: Config
    prepared: Path
    train: Path
    target: Path
    report: Report
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        from sft_runner.merging import loading, proof, shards
        from sft_runner.model import files

        self.base = files.require(self.config.model)
        self.own_code = files.locate(self.config.model).own_code
        loading.refuse_quantized(self.base)
        shards.read(self.base)  # before anything else finds a damaged file, and says less
        self.device = loading.place(self.config, self.base)
        self.rows = proof.proving_rows(self.prepared, self.config.merge.verify_rows)
        self.found: dict[str, Any] = {}
        self.told = time.monotonic()

    def merge_adapter(self) -> dict[str, Any]:
        """Merge the adapter; what the proofs found."""
        from sft_runner.merging import choice, loading, proof, rounding, skeleton, stream, weights

        adapter = self.train / "adapter"
        self._step(0, "layers of base and adapter")
        layers = skeleton.adapted(self.base, adapter, self.own_code)
        rounded = rounding.rounding(self.config, self.base, self.own_code)

        self._step(1, "logits of base and adapter")
        model = loading.load_adapted(self.base, adapter, self.device, self.own_code)
        if rounded is None:
            self._verify_trained(model)
            expected, chosen = proof.answer_logits(model, self.rows), choice.ORIGINAL
        else:
            exact = rounded.on_card or rounded.whole_blocks
            made = choice.choose(
                self.config,
                model,
                self.base,
                rounded,
                self.prepared,
                self.rows,
                self.report,
                self._verify_trained if exact else self._cannot_verify,
                self.own_code,
            )
            expected, chosen = made.expected, made.base
            self.found["candidates"] = made.candidates
            self.notes.append(made.note)
        del model
        gc.collect()  # PEFT's layers refer to each other; the weights must go before the merged model comes

        self._step(2, "merge")
        into = rounded if chosen == choice.QUANTIZED else None
        change = stream.merge(
            self.base, adapter, self.target, into, self.report, device=self.device, own_code=self.own_code
        )

        self._step(3, "weights of the merged model")
        proven = weights.verify_merged(self.base, layers, self.target, into, self.own_code, self._tensors)
        del layers
        return self._proven(change, proven, expected) | {"base": chosen}

    def carry_over(self) -> dict[str, Any]:
        """Carry over a model that was trained whole; what the proofs found."""
        from sft_runner.merging import loading, proof, weights, whole
        from sft_runner.merging.tensors import Tensors

        trained = self.train / "model"
        Tensors.of(trained, "the trained model")
        self._step(1, "logits of the trained model")
        model = loading.load_stored(trained, self.device, self.own_code)
        self._verify_trained(model)
        expected = proof.answer_logits(model, self.rows)
        del model
        gc.collect()

        self._step(2, "copy")
        change = whole.carry(trained, self.base, self.target, self.own_code)

        self._step(3, "weights of the copy")
        return self._proven(change, weights.verify_copied(trained, self.target, self.base), expected)

    def _proven(self, change: Any, weights: Any, expected: list[Any]) -> dict[str, Any]:
        """Prove prompts and logits of what lies in the target, and put everything together."""
        from transformers import AutoTokenizer

        from sft_runner.merging import companions, proof
        from sft_runner.model.prompts import check_prompts

        template = self.prepared / companions.CHAT_TEMPLATE
        if template.is_file():
            companions.set_chat_template(template, self.target)
        self._step(4, "prompts of the merged model")
        checked = check_prompts(
            AutoTokenizer.from_pretrained(self.target), proof.proving_rows(self.prepared, CHECKED_ROWS)
        )

        self._step(5, "logits of the merged model")
        difference = proof.verify(
            self.target, expected, self.rows, self.config.merge.tolerance, self.device, self.own_code
        )
        self._step(6, "proven")
        told = dict(vars(change))
        size, seconds, note = told.pop("bytes"), told["seconds"], told.pop("note")
        loosened = proof.loosened(self.config.merge.tolerance, change.merged_into)
        self.notes += [sentence for sentence in (note, loosened) if sentence]
        if weights.converted:
            self.notes.append(
                f"{weights.converted} tensors are stored in another form than they are trained in: "
                "the logits prove these, and not each by itself"
            )
        return self.found | {
            "difference": vars(difference),
            "weights": vars(weights),
            "prompts_checked": checked,
            "rows": len(self.rows),
            "positions": sum(len(logits) for logits in expected),
            **told,
            "gb_per_second": size / 1e9 / seconds if seconds else 0.0,
            "trained_on": _trained_on(self.config),
        }

    def _verify_trained(self, model: Any) -> None:
        """Compare with what training kept of the model before it wrote anything."""
        from sft_runner.merging import proof

        kept = proof.kept(self.train)
        if kept is None:
            what = (
                "what it wrote is what it trained" if self.config.adapter == "none" else "this base is the one it saw"
            )
            self.notes.append(f"the train stage kept no logits, so nothing proves that {what}")
            return
        config = self.config
        same = proof.verify_trained(model, kept, self.prepared, config.merge.tolerance, config.quantization.bits)
        self.found["trained"] = {"same": True, **vars(same)}

    def _cannot_verify(self, _: Any) -> None:
        self.notes.append(
            "not compared with what training saw: bitsandbytes reads 4-bit weights on this CPU wrongly whose rows are "
            "no multiple of 64"
        )

    def _tensors(self, done: int, count: int) -> None:
        if time.monotonic() - self.told > PATIENCE:
            self.told = time.monotonic()
            self.report(message=f"weights of the merged model: {done} of {count} tensors")

    def _step(self, step: int, message: str) -> None:
        self.report(step=step, steps=6, message=message)


def _trained_on(config: Config) -> str:
    """How the base was stored while it was trained on."""
    if config.adapter == "none":
        return config.hardware.trained_dtype
    bits = config.quantization.bits
    return config.hardware.dtype if bits == "none" else f"{bits}-bit"
