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
STEP, STEPS = 16, 250
"""Rows of a step, and how many steps are drawn, for the share of a step that is no padding."""


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
            "packing": {"rows": len(learned), "rows_per_step": STEP, **_fullness(learned, data)},
            "duplicates": self.duplicates,
            "leaks": self.leaks,
            "kinds": {kind: int((self.held_out & (self.kind == i)).sum()) for i, kind in enumerate(KINDS)},
        }


def choose(columns: Columns, sources: Sequence[Source], data: Data, account: Account) -> Chosen:
    """Leave out duplicates, hold rows out, leave out what would leak, mix. `account` is told of all of it."""
    # A source's own duplicates go first; those between sources only once it is known which copies are used at all.
    own = cleaning.repeated(cleaning.apart(columns.digest, columns.origin))
    held_out = _held_out(columns, ~own, sources, data, account)
    asked_twice = held_out & cleaning.repeated(columns.digest, among=held_out)
    held_out &= ~asked_twice
    leaks = cleaning.leaking(columns.prompt, columns.rank, held_out, held_out & ~columns.only_asked)
    leaks &= ~(own | asked_twice)
    train = _copies(columns, ~(own | asked_twice | leaks | held_out), sources, data.seed)
    capped = ~(own | asked_twice | leaks | held_out) & (train == 0)
    learned_twice = cleaning.repeated(columns.digest, among=train > 0)
    train[learned_twice] = 0
    untaught = _untaught(columns, train, held_out)
    held_out &= ~untaught
    duplicates = own | asked_twice | learned_twice
    for which, reason in (
        (duplicates, Dropped.DUPLICATE),
        (leaks, Dropped.HELD_OUT_TWIN),
        (capped | untaught, Dropped.CAPPED),
    ):
        _drop(account, columns, which, reason)
    _tell(columns, train, held_out, account)
    kind = _kinds(columns, train, account)
    return Chosen(columns, train, held_out, kind, int(duplicates.sum()), int(leaks.sum()))


def _fullness(lengths: "NDArray[Any]", data: Data) -> dict[str, float]:
    """The share of tokens that are no padding in steps of rows drawn at random, packed as on the CPU and padded."""
    import numpy as np

    drawn = np.random.default_rng(data.seed).permutation(lengths)[: STEP * STEPS].tolist()
    steps = [range(len(drawn))[start : start + STEP] for start in range(0, len(drawn), STEP)]
    packed = [
        [step[place] for place in group]
        for step in steps
        for group in packing.similar([drawn[row] for row in step], STEP * data.max_length)
    ]
    return {
        "efficiency": round(packing.fullness(drawn, packed), 4),
        "padded_efficiency": round(packing.fullness(drawn, steps), 4),
    }


def _tell(columns: Columns, train: "NDArray[Any]", held_out: "NDArray[Any]", account: Account) -> None:
    """Give the account what became of each source, and what a person should know of it."""
    for index, source in enumerate(account.sources):
        mine = columns.origin == index
        source.train, source.held_out = int((mine & (train > 0)).sum()), int((mine & held_out).sum())
        if source.read and not source.train + source.held_out:
            account.warn("unused_source", source.read, "No row of this source is used.", [source.source.name])
    several = cleaning.ambiguous(columns.prompt, among=train > 0)
    if several.any():
        text = "Other rows answer the same prompt otherwise; the model learns a mixture of both."
        account.warn("ambiguous", int(several.sum()), text, columns.places(several))


def _held_out(
    columns: Columns, left: "NDArray[Any]", sources: Sequence[Source], data: Data, account: Account
) -> "NDArray[Any]":
    """Each source's share, and what is never learned anyway, as a mask."""
    found: NDArray[Any] = columns.only_asked & left
    for index, source in enumerate(sources):
        mine = left & (columns.origin == index)
        learnable = mine & ~columns.only_asked
        share = data.held_out if source.held_out is None else source.held_out
        if len(sources) > 1 and share < 1 and learnable.sum() < 2:
            continue  # one row of many sources is learned, not held out
        name = source.name if len(sources) > 1 else ""
        try:
            found[learnable] = splitting.held_out(columns.rank[learnable], share, name)
        except DataError:
            if not (mine & columns.only_asked).any():
                raise
            text = "No file can be held out of so few: only learned facts are asked, in other words."
            account.warn("few_files", int(learnable.sum()), text, columns.places(learnable))
        count = int((found & learnable).sum())
        asked = share if share >= 1 else round(share * int(learnable.sum()))
        if count > max(asked, 1) and math.isfinite(share):
            text = f"Held out instead of {asked:g}, because rows of one prompt or file stay together."
            account.warn("coarse_groups", count, text, columns.places(found & learnable))
    return found


def _copies(columns: Columns, left: "NDArray[Any]", sources: Sequence[Source], seed: int) -> "NDArray[Any]":
    """How often each row is learned in an epoch."""
    import numpy as np

    found = np.zeros(len(columns), np.int64)
    for index, source in enumerate(sources):
        mine = left & (columns.origin == index)
        found[mine] = mixing.copies(columns.digest[mine], source, seed)
    return found


def _untaught(columns: Columns, train: "NDArray[Any]", held_out: "NDArray[Any]") -> "NDArray[Any]":
    """Held-out wordings of facts that a learned file has, but that are not learned themselves, as a mask."""
    import numpy as np

    learned = train > 0
    of_learned_files = np.isin(columns.rank, columns.rank[learned])
    found: NDArray[Any] = columns.only_asked & held_out & of_learned_files
    found &= ~np.isin(columns.answer, columns.answer[learned])
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
