"""What is wrong only beside other rows: duplicates, one question with several answers, learned rows that are held out.

Rows are compared by 64-bit hashes: at a million rows two different ones meet by chance once in 30 million data sets.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def repeated(digests: "NDArray[Any]") -> "NDArray[Any]":
    """Which rows say what an earlier row said already, as a mask."""
    import numpy as np

    found = np.ones(len(digests), bool)
    found[np.unique(digests, return_index=True)[1]] = False
    return found


def ambiguous(prompts: "NDArray[Any]") -> "NDArray[Any]":
    """Which of several different rows have a prompt in common, as a mask."""
    import numpy as np

    _, places, counts = np.unique(prompts, return_inverse=True, return_counts=True)
    found: NDArray[Any] = counts[places] > 1
    return found


def leaking(
    prompts: "NDArray[Any]", ranks: "NDArray[Any]", held_out: "NDArray[Any]", grouped: "NDArray[Any]"
) -> "NDArray[Any]":
    """Which rows to learn have a prompt that is held out, or belong to a group that is, as a mask.

    `grouped` are the held-out rows whose group goes with them.
    """
    import numpy as np

    twins = np.isin(prompts, prompts[held_out]) | np.isin(ranks, ranks[grouped])
    found: NDArray[Any] = twins & ~held_out
    return found
