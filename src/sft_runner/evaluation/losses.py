"""What a model makes of answers that are known: one forward pass over each row, on the answers' tokens only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sft_runner.data.template import IGNORED
from sft_runner.errors import DataError, NotFinite
from sft_runner.model.memory import in_batches
from sft_runner.model.rows import Rows, answer_positions, batches, padded
from sft_runner.stages.stage import Report

if TYPE_CHECKING:
    from torch import Tensor

LOGITS = 2**28
"""Most logits in a batch of several rows: 512 MiB in 16 bits."""
POSITIONS = 256
"""Positions whose logits are turned into float32 at once."""
_SMALLER = "try, one after the other: quantization.bits=4, a smaller data.max_length"
"""What is left when one row does not fit."""


@dataclass(frozen=True)
class Loss:
    """What a model made of one row's answers."""

    nats: float
    """Summed over their tokens."""
    tokens: int
    """How many there are."""
    right: int
    """How many are the model's first choice."""

    @property
    def mean(self) -> float:
        """Nats for each token."""
        return self.nats / max(self.tokens, 1)


def losses(model: Any, rows: Rows, batch_size: int, report: Report) -> list[Loss]:
    """Of each row, in their order.

    Rows are padded on the right, where a causal model never looks, and only the batch's tail from its first answer
    on is turned into logits. Raises `NotFinite`, and `DataError` where no row has an answer.
    """
    import torch

    lengths = [len(ids) for ids in rows["input_ids"]]
    starts = [min(answer_positions(labels), default=len(labels) - 1) for labels in rows["labels"]]
    most = LOGITS // model.config.get_text_config().vocab_size
    found = [Loss(0.0, 0, 0)] * len(rows)
    done = 0

    def measure(batch: Sequence[int]) -> None:
        nonlocal done
        columns = rows[batch]
        ids, mask = padded(columns["input_ids"], 0, model.device)
        labels, _ = padded([labels[1:] for labels in columns["labels"]], IGNORED, model.device, ids.shape[1])
        tail = ids.shape[1] - min(starts[index] for index in batch)
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=tail, use_cache=False).logits
            for index, scored, wanted in zip(batch, logits[:, -tail:], labels[:, -tail:], strict=True):
                found[index] = _loss(scored, wanted)
        for index in batch:
            if not math.isfinite(found[index].nats):
                raise NotFinite(
                    f"the loss on the held-out row {rows[index]['source']} is {found[index].nats}",
                    "the model overflows in this precision: set hardware.dtype to bfloat16 or float32",
                )
        done += len(batch)
        report(step=done, steps=len(rows), message="loss")

    in_batches(batches(lengths, starts, batch_size, most), measure, report, _SMALLER)
    if not any(loss.tokens for loss in found):
        raise DataError("data.path: no held-out row has an answer token to score", "give rows with answers")
    return found


def answer_bytes(tokenizer: Any, ids: Sequence[int], labels: Sequence[int]) -> int:
    """UTF-8 bytes of the text whose tokens carry loss; special tokens, such as the end of a turn, have none."""
    runs: list[list[int]] = [[]]
    for position in range(1, len(labels)):  # nothing predicts the first token
        if labels[position] != IGNORED:
            runs[-1].append(ids[position])
        elif runs[-1]:
            runs.append([])
    texts = (tokenizer.decode(run, skip_special_tokens=True, clean_up_tokenization_spaces=False) for run in runs if run)
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def _loss(logits: "Tensor", labels: "Tensor") -> Loss:
    """Of one row, some positions at a time in float32: `logits` are `[positions, vocabulary]`, `labels` are ids."""
    from torch.nn.functional import cross_entropy

    counted = (labels != IGNORED).nonzero()[:, 0]
    nats, right = 0.0, 0
    for first in range(0, len(counted), POSITIONS):
        part = counted[first : first + POSITIONS]
        scored, wanted = logits[part].float(), labels[part]
        nats += cross_entropy(scored, wanted, reduction="sum").item()
        right += int((scored.argmax(dim=-1) == wanted).sum().item())
    return Loss(nats, len(counted), right)
