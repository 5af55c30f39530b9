"""Which rows are held out: a choice that depends on each row's own prompt, or the group it names.

So most rows stay on their side when others are added, and rows with one prompt stay together.
"""

import hashlib
from typing import TYPE_CHECKING, Any

from sft_runner.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def rank(seed: int, group: str) -> int:
    """A row's place in the order in which rows are held out: 64 bits, the same for all rows of a group."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{group}".encode()).digest()[:8])


def mistake(share: float, key: str, where: str = "") -> DataError | None:
    """What is wrong with a share or a number of rows, before there are any; `key` says it, `where` follows the rows."""
    if 1 < share < float("inf") and share % 1:
        return DataError(f"{key}: {share:g} is neither a share nor a number of rows{where}", "such as 0.1 or 200")
    return None


def held_out(ranks: "NDArray[Any]", share: float, source: str = "") -> "NDArray[Any]":
    """Which rows are held out, as a mask: a share of them below 1, a number from 1 on, at least one unless 0.

    Rows of one rank stay together, so that no prompt is both learned and asked. A group that is larger than what is
    still wanted is passed over; where all are, the smallest is taken if that leaves half of the rows. Raises
    `DataError` where nothing would be left to learn from, or no group can be held out.
    """
    import numpy as np

    count, where = len(ranks), f" of {source}" if source else ""
    if share == 0 or not count:
        return np.zeros(count, bool)
    if share == float("inf"):
        return np.ones(count, bool)
    if error := mistake(share, "data.held_out", where):
        raise error
    wanted = int(share) if share >= 1 else max(round(share * count), 1)
    if wanted >= count:
        raise DataError(
            f"data.held_out: {share:g} leaves nothing of {count} rows{where} to learn from",
            "hold out fewer, or none: 0",
        )
    groups, places, sizes = np.unique(ranks, return_inverse=True, return_counts=True)
    chosen, left = np.zeros(len(groups), bool), wanted
    for group, size in enumerate(sizes):
        if size <= left:
            chosen[group] = True
            left -= size
            if not left:
                break
    smallest = int(np.argmin(sizes))
    if left == wanted and sizes[smallest] <= count / 2:
        chosen[smallest] = True
    elif left == wanted:
        raise DataError(
            f"data.held_out: {wanted} of {count} rows{where} cannot be held out, because rows with equal prompts, "
            "or of one file, stay together",
            "give rows with more than one prompt, or set data.held_out=0",
        )
    found: NDArray[Any] = chosen[places]
    return found
