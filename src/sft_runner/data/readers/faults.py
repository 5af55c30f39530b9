"""What happens where a file is not as it should be: `data.bad_rows`."""

from collections import Counter
from dataclasses import dataclass, field

from sft_runner.data.row import error_at
from sft_runner.errors import DataError

MALFORMED = "malformed"
"""A line or row that cannot be read."""
BLANK_LINES = "blank_lines"
"""Lines without a row, between rows."""
BYTE_ORDER_MARKS = "byte_order_marks"
"""Files that begin with U+FEFF where that is no part of the format."""
PLACES = 3
"""Places that are remembered of each kind."""


@dataclass(frozen=True)
class Faults:
    """Stops at a fault, or counts it and lets the reader go on."""

    counts: Counter[str]
    """Kind -> how many were passed over."""
    passed_over: bool = False
    """Whether reading goes on: `data.bad_rows=drop`."""
    places: dict[str, list[str]] = field(default_factory=dict)
    """Kind -> where the first of them are, such as `train.jsonl:7`."""

    def meet(self, kind: str, place: str, error: DataError) -> None:
        """Raise the error, or count one of its kind at this place."""
        if not self.passed_over:
            raise error
        self.note(kind, place)

    def note(self, kind: str, place: str) -> None:
        """Count what is passed over whatever the user says."""
        self.counts[kind] += 1
        places = self.places.setdefault(kind, [])
        if len(places) < PLACES:
            places.append(place)

    def meet_blank(self, name: str, numbers: list[int]) -> None:
        """Meet blank lines between rows, and forget their numbers."""
        hint = "remove it, or pass over such lines: data.bad_rows=drop"
        for number in numbers:
            self.meet(BLANK_LINES, f"{name}:{number}", error_at(name, "line", number, "a blank line", hint))
        numbers.clear()
