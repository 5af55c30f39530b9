"""What happens where a file is not as it should be: `data.bad_rows`."""

from collections import Counter
from dataclasses import dataclass

from sft_runner.errors import DataError

MALFORMED = "malformed"
"""A line or row that cannot be read."""
BLANK_LINES = "blank_lines"
"""Lines without a row, between rows."""
BYTE_ORDER_MARKS = "byte_order_marks"
"""Files that begin with U+FEFF where that is no part of the format."""


@dataclass(frozen=True)
class Faults:
    """Stops at a fault, or counts it and lets the reader go on."""

    counts: Counter[str]
    """Kind -> how many were passed over."""
    passed_over: bool = False
    """Whether reading goes on: `data.bad_rows=drop`."""

    def meet(self, kind: str, error: DataError) -> None:
        """Raise the error, or count one of its kind."""
        if not self.passed_over:
            raise error
        self.counts[kind] += 1
