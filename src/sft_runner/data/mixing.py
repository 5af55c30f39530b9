"""How often each row of a source is learned in an epoch: its `cap` first, then its `weight`."""

import math
from typing import TYPE_CHECKING, Any

from sft_runner.data.sources import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray


def copies(digests: "NDArray[Any]", source: Source, seed: int) -> "NDArray[Any]":
    """Copies of each row in an epoch; 0 leaves it out. Shape and order are those of `digests`, the rows' hashes.

    Which rows are taken depends on each row's own content and the seed, so that most stay when others are added.
    """
    import numpy as np

    # splitmix64's finaliser (Steele et al. 2014) over hash and seed: another order for another seed
    mixed = digests ^ np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    order = np.argsort(mixed ^ (mixed >> np.uint64(31)), kind="stable")
    kept = len(digests) if source.cap is None else min(source.cap, len(digests))
    whole, share = math.floor(source.weight), source.weight % 1
    found = np.zeros(len(digests), np.int64)
    found[order[:kept]] = whole
    found[order[: round(share * kept)]] += 1
    return found
