"""Round values, as a reader expects them on an axis."""

import math
from collections.abc import Sequence

MOST = 6
"""Steps between the values."""


def rounded(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from `low` to `high`."""
    power = 10.0 ** math.floor(math.log10(max(high - low, 1e-9) / MOST))
    step = next((factor * power for factor in (1, 2, 5) if high - low <= MOST * factor * power), 10 * power)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def powers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times each power of ten between two positive values, or where these are many the powers alone."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors: Sequence[int] = (1, 2, 5) if high <= 1000 * low else (1,)
    return [tick for power in exponents for tick in (factor * 10.0**power for factor in factors) if low <= tick <= high]
