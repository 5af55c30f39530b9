"""What is wrong only beside other rows: duplicates, one question with several answers, learned rows that are held out.

Rows are compared by 64-bit hashes: at a million rows two different ones meet by chance once in 30 million data sets.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def repeated(digests: "NDArray[Any]", among: "NDArray[Any] | None" = None) -> "NDArray[Any]":
    """Which rows say what an earlier row said already, as a mask; with `among` only these are looked at."""
    import numpy as np

    looked_at = np.arange(len(digests)) if among is None else np.flatnonzero(among)
    found = np.zeros(len(digests), bool)
    found[looked_at] = True
    found[looked_at[np.unique(digests[looked_at], return_index=True)[1]]] = False
    return found


def apart(digests: "NDArray[Any]", origins: "NDArray[Any]") -> "NDArray[Any]":
    """Hashes that differ between sources; `origins` are the rows' source indices."""
    import numpy as np

    found: NDArray[Any] = digests + origins.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return found


def ambiguous(prompts: "NDArray[Any]", among: "NDArray[Any]") -> "NDArray[Any]":
    """Which of different rows have a prompt in common, as a mask; only those in `among` are looked at."""
    import numpy as np

    looked_at = np.flatnonzero(among)
    _, places, counts = np.unique(prompts[looked_at], return_inverse=True, return_counts=True)
    found = np.zeros(len(prompts), bool)
    found[looked_at] = counts[places] > 1
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
