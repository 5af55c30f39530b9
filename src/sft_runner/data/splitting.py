"""Which rows are held out: a choice that depends on each row's own prompt, or the group it names.

So a row stays on its side when others are added, and rows with one prompt stay together.
"""

import hashlib
from collections.abc import Sequence
from itertools import groupby

from sft_runner.errors import DataError


def rank(seed: int, group: str) -> int:
    """A row's place in the order in which rows are held out: 64 bits, the same for all rows of a group."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{group}".encode()).digest()[:8])


def held_out(ranks: Sequence[int], share: float) -> set[int]:
    """The indices of held-out rows: a share of them below 1, a number from 1 on, at least one unless 0.

    Rows of one rank stay together, so that no prompt is both learned and asked. A group that is larger than what is
    still wanted is passed over.
    """
    if share == 0:
        return set()
    wanted = int(share) if share >= 1 else max(round(share * len(ranks)), 1)
    if wanted >= len(ranks):
        raise DataError(
            f"data.held_out: {share:g} leaves nothing of {len(ranks)} rows to learn from", "hold out fewer, or none: 0"
        )
    chosen: set[int] = set()
    for _, group in groupby(sorted(range(len(ranks)), key=ranks.__getitem__), key=ranks.__getitem__):
        rows = list(group)
        if len(chosen) + len(rows) <= wanted:
            chosen.update(rows)
        if len(chosen) == wanted:
            break
    if not chosen:
        raise DataError(
            f"data.held_out: {wanted} of {len(ranks)} rows cannot be held out, because equal prompts stay together",
            "give rows with more than one prompt, or set data.held_out=0",
        )
    return chosen
