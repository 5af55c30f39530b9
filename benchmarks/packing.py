"""How full packs are that best fit makes, and how long it takes, beside TRL's own `pack_dataset` on the same lengths.

    python -m benchmarks.packing [--rows 1000000] [--capacity 2048]

The lengths are drawn: lognormal with a mean of 378 tokens as chats have them, and uniform from 300 to 2,040, which is
hard to pack. TRL packs a thousand rows at a time and copies their tokens (one byte each here); `pack` packs all rows
and gives indices. The last line gives the ratio of the times on the lognormal lengths.

Training packs the rows of one step only, for flash attention in this way. All rows at once are where ways of packing
differ, in how full packs are and in time.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sft_runner.data.packing import efficiency, pack

Lengths = NDArray[np.int64]
SEED = 0
DEVIATION = 0.9
"""Standard deviation of the logarithm of a length."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--capacity", type=int, default=2048)
    asked = parser.parse_args()
    random = np.random.default_rng(SEED)
    lognormal = random.lognormal(np.log(378) - DEVIATION**2 / 2, DEVIATION, asked.rows)
    mixes = {
        "lognormal": np.clip(lognormal, 8, asked.capacity).astype(int),
        "uniform": random.integers(300, 2041, asked.rows),
    }
    ways: dict[str, Callable[[Lengths, int], int]] = {"sft_runner": _packs, "TRL": _trl_packs}
    for packed in ways.values():
        packed(np.array([1, 2]), asked.capacity)  # imports are not measured
    seconds: dict[tuple[str, str], float] = {}
    for mix, lengths in mixes.items():
        for way, packed in ways.items():
            began = time.perf_counter()
            count = packed(lengths, asked.capacity)
            seconds[mix, way] = time.perf_counter() - began
            full = efficiency(lengths, count, asked.capacity)
            print(f"{mix:<10} {way:<10} {seconds[mix, way]:7.2f} s   {count:,} packs   {full:.2%} full", flush=True)
    print(f"TRL / sft_runner = {seconds['lognormal', 'TRL'] / seconds['lognormal', 'sft_runner']:.1f}")


def _packs(lengths: Lengths, capacity: int) -> int:
    return len(pack(lengths, capacity))


def _trl_packs(lengths: Lengths, capacity: int) -> int:
    import pyarrow as pa
    from datasets import Dataset, disable_progress_bars
    from trl.data_utils import pack_dataset

    disable_progress_bars()
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.zeros(offsets[-1], np.int8)))
    return len(pack_dataset(Dataset(pa.table({"input_ids": tokens})), capacity))


if __name__ == "__main__":
    main()
