"""Several documents in one row of tokens, none of which sees another.

transformers keeps documents apart by position ids that start again with each of them, and only in a batch without an
attention mask. That holds for attention alone: layers with a memory of their own run on, so it is checked on the model.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.data.packing import pack
from sft_runner.data.prepared import PACKS, TRAIN
from sft_runner.data.template import IGNORED
from sft_runner.errors import StageFailed
from sft_runner.model.rows import Rows, all_rows, padded

if TYPE_CHECKING:
    from torch import Tensor

Pack = Mapping[str, list[int]]
"""`input_ids` and `labels` of all documents one after the other, and `seq_lengths`, the tokens of each document."""
ROOM = 2
"""Width of a batch's rows as a multiple of its longest document: less leaves more padding, more leaves longer rows."""
CHECKED = 8
"""Documents of one pack that are compared with themselves alone."""
EDGE = 16
"""Positions compared at the start of each document, where a neighbour shows most, besides its last one."""
TOLERANCE = 1e-4
"""Largest logit difference allowed in float32, relative to the largest logit."""
COARSE_TOLERANCE = 0.1
"""The same in 16 bits or on a quantized base, where the size of a batch alone moves logits by a few hundredths."""


def packs(prepared: Path) -> Rows:
    """The packs that `prepare` wrote, as `Pack`s gathered from the memory-mapped rows when they are asked for."""
    rows = all_rows(prepared / TRAIN).select_columns(["input_ids", "labels"])
    return all_rows(prepared / PACKS).with_transform(partial(_gather, rows))


@dataclass(frozen=True)
class PackCollator:
    """The documents of several packs as one batch, without an attention mask."""

    padding: int
    """Token id that fills up the shorter rows."""
    flat: bool
    """One row of all documents, for kernels that take their lengths (flash attention); else several short rows."""

    def __call__(self, batch: Sequence[Pack]) -> "dict[str, Tensor]":
        """`input_ids`, `labels` and `position_ids` of shape (rows, longest row), or (1, all tokens) where flat.

        Kernels with a mask compute every pair of tokens in a row, so the documents are laid out anew in rows that are
        as short as the longest of them allows. Each padding token is a document of its own: it is seen by none, and
        its label is ignored.
        """
        if self.flat:
            from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

            found: dict[str, Tensor] = DataCollatorForLanguageModeling(self.padding, padding_free=True)(list(batch))
            return found
        documents = [document for one in batch for document in _documents(one)]
        lengths = [len(ids) for ids, _ in documents]
        rows = [[documents[i] for i in chosen] for chosen in pack(lengths, ROOM * max(lengths))]
        columns = {
            "input_ids": ([[token for ids, _ in row for token in ids] for row in rows], self.padding),
            "labels": ([[label for _, labels in row for label in labels] for row in rows], IGNORED),
            "position_ids": ([[place for ids, _ in row for place in range(len(ids))] for row in rows], 0),
        }
        return {name: padded(values, fill, "cpu")[0] for name, (values, fill) in columns.items()}


def count_tokens(position_ids: "Tensor") -> int:
    """The tokens of documents in a batch of packs, padding left out. A document has at least two tokens."""
    first = (position_ids[:, :-1] == 0) & (position_ids[:, 1:] == 1)
    return int((position_ids > 0).sum() + first.sum())


def check_isolated(model: Any, rows: Rows, collator: PackCollator, exact: bool) -> float:
    """Compare documents in a pack with the same documents alone; returns the difference relative to the largest logit.

    `rows` come from `packs`; `exact` says that the model computes in float32. Raises `StageFailed` for a model that
    mixes documents.
    """
    import torch

    several = _several(rows)
    if several is None:
        return 0.0
    training, difference, scale = model.training, 0.0, 0.0
    model.eval()  # no dropout, so that nothing random is used up either
    try:
        with torch.no_grad():
            batch = collator([several])
            compared = list(_compared(batch["position_ids"]))
            columns = sorted({column for *_, own in compared for column in own})
            together = _logits(model, batch, columns)
            for row, start, end, own in compared:
                ids = batch["input_ids"][row : row + 1, start:end]
                alone = _logits(model, {"input_ids": ids}, [column - start for column in own])[0]
                gap = together[row, [columns.index(column) for column in own]] - alone
                difference, scale = max(difference, gap.abs().max().item()), max(scale, alone.abs().max().item())
    except (TypeError, NotImplementedError) as error:
        raise StageFailed(f"train.packing: the model takes no position ids: {error}", _HINT) from error
    finally:
        model.train(training)
    allowed = TOLERANCE if exact else COARSE_TOLERANCE
    relative = difference / scale if scale else difference
    if not relative <= allowed:  # so that nan fails too
        raise StageFailed(
            "train.packing: this model does not keep the documents of a pack apart: their logits differ from those of "
            f"the same documents alone by up to {relative:.3g} of the largest logit ({allowed:g} is allowed)",
            _HINT,
        )
    return relative


_HINT = "set train.packing=false"


def _gather(rows: Rows, batch: Mapping[str, list[list[int]]]) -> dict[str, list[list[int]]]:
    """Packs of row indices as packs of tokens. The first token of a document is not predicted from the one before."""
    wanted = rows[[index for indices in batch["rows"] for index in indices]]
    documents = zip(wanted["input_ids"], wanted["labels"], strict=True)
    found: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "seq_lengths": []}
    for indices in batch["rows"]:
        own = list(islice(documents, len(indices)))
        found["input_ids"].append([token for ids, _ in own for token in ids])
        found["labels"].append([label for _, labels in own for label in (IGNORED, *labels[1:])])
        found["seq_lengths"].append([len(ids) for ids, _ in own])
    return found


def _several(rows: Rows) -> Pack | None:
    """Some documents of the last pack that has several."""
    import pyarrow.compute as pc  # type: ignore[import-untyped]

    counts = pc.list_value_length(rows.data.column("rows")).to_numpy()
    several = (counts > 1).nonzero()[0]
    if not len(several):
        return None
    documents = _documents(rows[int(several[-1])])[:CHECKED]
    ids, labels = ([token for document in documents for token in document[side]] for side in (0, 1))
    return {"input_ids": ids, "labels": labels, "seq_lengths": [len(own) for own, _ in documents]}


def _documents(one: Pack) -> list[tuple[list[int], list[int]]]:
    """The ids and labels of each document of a pack."""
    ends = list(accumulate(one["seq_lengths"]))
    places = [slice(end - length, end) for end, length in zip(ends, one["seq_lengths"], strict=True)]
    return [(one["input_ids"][place], one["labels"][place]) for place in places]


def _compared(position_ids: "Tensor") -> Iterator[tuple[int, int, int, list[int]]]:
    """Row, start and end of each document of a batch, and the columns at which it is compared."""
    for row, positions in enumerate(position_ids.tolist()):
        starts = [column for column, position in enumerate(positions) if position == 0]
        for start, end in pairwise([*starts, len(positions)]):
            if end - start > 1:  # else it is padding
                yield row, start, end, [*range(start, min(start + EDGE, end - 1)), end - 1]


def _logits(model: Any, batch: "Mapping[str, Tensor]", columns: Sequence[int]) -> "Tensor":
    """Logits in some columns of a batch, in float32, of shape (rows, columns, vocabulary)."""
    import torch

    keep = torch.tensor(columns, device=model.device)
    inputs = {
        name: value.to(model.device) if isinstance(value, torch.Tensor) else value  # flat packs tell the longest
        for name, value in batch.items()
        if name != "labels"
    }
    found: Tensor = model(**inputs, logits_to_keep=keep, use_cache=False).logits
    return found.float()
