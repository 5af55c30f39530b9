"""Which of the encoded rows are learned, held out or left out. Only the small columns are looked at."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import Data
from sft_runner.data import cleaning, mixing, packing, splitting
from sft_runner.data.account import Account, lengths
from sft_runner.data.columns import Columns
from sft_runner.data.row import Dropped
from sft_runner.data.sources import Source
from sft_runner.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

KINDS = ("", "unseen", "reworded")
"""Held-out rows: of no special kind; about facts of a file that is not learned; learned facts asked in other words."""


@dataclass
class Chosen:
    """What becomes of each encoded row."""

    columns: Columns
    """The rows."""
    train: "NDArray[Any]"
    """Copies of each row in an epoch; 0 for rows that are not learned."""
    held_out: "NDArray[Any]"
    """Whether it is kept for evaluation."""
    kind: "NDArray[Any]"
    """Index into `KINDS`."""
    packs: list[list[int]]
    """Rows of `train.arrow` that share one row of `data.max_length`."""
    duplicates: int
    """Rows left out because they stood there before."""
    leaks: int
    """Rows left out because their question is held out."""

    def report(self, data: Data) -> dict[str, Any]:
        """The part of `report.json` that is about tokens."""
        import numpy as np

        learned, trained = np.repeat(self.columns.length, self.train), np.repeat(self.columns.trained, self.train)
        return {
            "tokens": lengths(learned, trained, self.columns.length[self.held_out], data.max_length),
            "packing": {
                "length": data.max_length,
                "packs": len(self.packs),
                "rows": len(learned),
                "efficiency": round(packing.efficiency(learned, len(self.packs), data.max_length), 4),
                "rows_per_pack": round(len(learned) / len(self.packs), 2),
                "padded_efficiency": round(float(learned.sum()) / (len(learned) * int(learned.max())), 4),
            },
            "duplicates": self.duplicates,
            "leaks": self.leaks,
            "kinds": {kind: int((self.held_out & (self.kind == i)).sum()) for i, kind in enumerate(KINDS)},
        }


def choose(columns: Columns, sources: Sequence[Source], data: Data, account: Account) -> Chosen:
    """Leave out duplicates, hold rows out, leave out what would leak, mix. `account` is told of all of it."""
    import numpy as np

    repeated = cleaning.repeated(columns.digest)
    _drop(account, columns, repeated, Dropped.DUPLICATE)
    held_out = _held_out(columns, ~repeated, sources, data, account)
    grouped = held_out & ~columns.only_asked
    leaks = cleaning.leaking(columns.prompt, columns.rank, held_out, grouped) & ~repeated
    _drop(account, columns, leaks, Dropped.HELD_OUT_TWIN)
    train = _copies(columns, ~(repeated | leaks | held_out), sources, data.seed, account)
    for index in range(len(sources)):
        mine = columns.origin == index
        account.sources[index].train = int((mine & (train > 0)).sum())
        account.sources[index].held_out = int((mine & held_out).sum())
    several = cleaning.ambiguous(columns.prompt) & (train > 0)
    if several.any():
        text = "Other rows answer the same prompt otherwise; the model learns a mixture of both."
        account.warn("ambiguous", int(several.sum()), text, columns.places(several))
    kind = _kinds(columns, train, account)
    packs = packing.pack(np.repeat(columns.length, train), data.max_length)
    return Chosen(columns, train, held_out, kind, packs, int(repeated.sum()), int(leaks.sum()))


def _held_out(
    columns: Columns, left: "NDArray[Any]", sources: Sequence[Source], data: Data, account: Account
) -> "NDArray[Any]":
    """Each source's share, and what is never learned anyway, as a mask."""
    found: NDArray[Any] = columns.only_asked & left
    for index, source in enumerate(sources):
        mine = left & (columns.origin == index)
        learnable = mine & ~columns.only_asked
        share = data.held_out if source.held_out is None else source.held_out
        name = source.name if len(sources) > 1 else ""
        try:
            found[learnable] = splitting.held_out(columns.rank[learnable], share, name)
        except DataError:
            if not (mine & columns.only_asked).any():
                raise
            text = "No file can be held out of so few: only learned facts are asked, in other words."
            account.warn("few_files", int(learnable.sum()), text, columns.places(learnable))
        count = int((found & learnable).sum())
        asked = share if share >= 1 else share * int(learnable.sum())
        if count > max(asked, 1) + 0.5 and math.isfinite(share):
            text = f"Held out instead of {asked:.0f}, because rows of one prompt or file stay together."
            account.warn("coarse_groups", count, text, columns.places(found & learnable))
    return found


def _copies(
    columns: Columns, left: "NDArray[Any]", sources: Sequence[Source], seed: int, account: Account
) -> "NDArray[Any]":
    """How often each row is learned in an epoch."""
    import numpy as np

    found = np.zeros(len(columns), np.int64)
    for index, source in enumerate(sources):
        mine = left & (columns.origin == index)
        found[mine] = mixing.copies(columns.digest[mine], source, seed)
        _drop(account, columns, mine & (found == 0), Dropped.CAPPED)
    return found


def _kinds(columns: Columns, train: "NDArray[Any]", account: Account) -> "NDArray[Any]":
    """Of documents it counts whether their file is learned; indices into `KINDS`."""
    import numpy as np

    documents = [index for index, source in enumerate(account.sources) if "docs" in source.formats]
    taught = columns.only_asked & np.isin(columns.rank, columns.rank[train > 0])
    found: NDArray[Any] = np.where(taught, 2, np.where(np.isin(columns.origin, documents), 1, 0))
    return found


def _drop(account: Account, columns: Columns, which: "NDArray[Any]", reason: Dropped) -> None:
    """Count rows that are left out, with the places of the first."""
    if not which.any():
        return
    places = columns.places(which)
    for index in range(len(account.sources)):
        account.drop(index, reason, int((which & (columns.origin == index)).sum()), places)
