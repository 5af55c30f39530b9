"""How the rows of an optimizer step are cut into forward and backward passes.

One batch of the trainer's loader is one step. The gradient of a step is the sum over its rows, so every cut gives the
same one, up to rounding. Rows stand right-padded in a pass, without an attention mask: the tokens of a causal model see
nothing behind them, so padding changes none of them, and attention kernels are at their fastest.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sft_runner.data.packing import CPU_PASS, pack, similar
from sft_runner.data.template import IGNORED

if TYPE_CHECKING:
    from torch import Tensor

Batch = Mapping[str, Any]
"""`input_ids` and `labels` of shape (rows, longest row), and `lengths`, the tokens of each row, as a list."""


@dataclass(frozen=True)
class Collator:
    """Rows of a dataset as a `Batch`."""

    padding: int
    """Token id that fills up the shorter rows."""

    def __call__(self, rows: Sequence[Mapping[str, list[int]]]) -> dict[str, Any]:
        import torch

        lengths = [len(row["input_ids"]) for row in rows]
        batch: dict[str, Any] = {"lengths": lengths}
        for name, fill in (("input_ids", self.padding), ("labels", IGNORED)):
            batch[name] = torch.full((len(rows), max(lengths)), fill)
            for place, row in enumerate(rows):
                batch[name][place, : lengths[place]] = torch.tensor(row[name])
        return batch


@dataclass(frozen=True)
class Layout:
    """What stands together in a pass."""

    rows: int
    """Most rows of full length in a pass; with `packing` a pass takes as many tokens as they have."""
    length: int = 0
    """Tokens of a row of full length; 0: of the longest row in the step."""
    packing: bool = False
    """Rows of similar length stand together, so that there is hardly any padding; else rows keep their order."""
    flat: bool = False
    """With `packing`: all rows in one, for kernels that take their lengths (flash attention)."""
    pass_cost: int = CPU_PASS
    """What a pass costs besides its tokens, in tokens."""
    mask: bool = False
    """With an attention mask although tokens need none, for models that count experts' tokens by it."""

    def passes(self, batch: Batch) -> "Iterator[dict[str, Tensor]]":
        """What the model is given, pass by pass: `input_ids`, `labels` and `position_ids`.

        All are of shape (rows, longest row of the pass), or (1, tokens) where flat, then with the lengths of the rows.
        """
        for group in self.groups(batch["lengths"]):
            yield self.laid(batch, group)

    def laid(self, batch: Batch, group: Sequence[int]) -> "dict[str, Tensor]":
        """One pass: what the model is given for the rows at the places of `group`."""
        own = [batch["lengths"][row] for row in group]
        one = {name: batch[name][group, : max(own)] for name in ("input_ids", "labels")}
        return flattened(one, own) if self.packing and self.flat else self._padded(one, own)

    def groups(self, lengths: Sequence[int]) -> list[list[int]]:
        """The places of the rows of each pass."""
        if not self.packing:
            return [list(range(len(lengths)))[start : start + self.rows] for start in range(0, len(lengths), self.rows)]
        most = max(self.rows * (self.length or max(lengths)), *lengths)
        return pack(lengths, most) if self.flat else similar(lengths, most, self.pass_cost)

    def largest(self, lengths: Sequence[int]) -> int:
        """Positions of the largest pass over a step of rows of these lengths, padding counted."""
        flat = self.packing and self.flat
        passes = ([lengths[row] for row in group] for group in self.groups(lengths))
        return max((sum(own) if flat else len(own) * max(own) for own in passes), default=0)

    def _padded(self, one: "dict[str, Tensor]", lengths: Sequence[int]) -> "dict[str, Tensor]":
        places = _places(one["input_ids"])
        return one | ({"attention_mask": _real(places, lengths).long()} if self.mask else {"position_ids": places})


def flattened(batch: "Mapping[str, Tensor]", lengths: Sequence[int]) -> "dict[str, Any]":
    """Rows as one row without padding, with what variable-length attention kernels need to keep them apart.

    The first token of a row is not predicted from the last one of the row before. `cu_seq_lens_*` are the places where
    rows begin and end, `max_length_*` the longest row, in the words of transformers.
    """
    import torch

    places = _places(batch["input_ids"])
    real = _real(places, lengths)
    labels = batch["labels"].clone()
    labels[:, 0] = IGNORED
    ends = torch.tensor([0, *lengths], device=places.device).cumsum(0, dtype=torch.int32)
    found = {"input_ids": batch["input_ids"], "labels": labels, "position_ids": places}
    ones = {name: value[real][None] for name, value in found.items()}
    sides = {f"cu_seq_lens_{side}": ends for side in "qk"} | {f"max_length_{side}": max(lengths) for side in "qk"}
    return ones | sides


def _places(ids: "Tensor") -> "Tensor":
    """The position of each token in its row."""
    import torch

    return torch.arange(ids.shape[1], device=ids.device).expand_as(ids)


def _real(places: "Tensor", lengths: Sequence[int]) -> "Tensor":
    """Which tokens are no padding."""
    import torch

    return places < torch.tensor(lengths, device=places.device)[:, None]
