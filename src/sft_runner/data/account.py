"""The account of a data set: what became of every row that was read, as numbers that add up.

    read + added = used + dropped         used = train + held out

for each source and for all of them; `report.json` holds it, the page and the terminal show it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sft_runner.data import formats
from sft_runner.data.batch import EXAMPLES, Batch, Counts
from sft_runner.data.encoding import DRIFTED
from sft_runner.data.readers.faults import MALFORMED
from sft_runner.data.row import Dropped
from sft_runner.data.sources import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEANINGS = {
    **formats.SUSPICIONS,
    DRIFTED: "An answer before the last one is learned behind another prompt than a server would send.",
}
"""Kind of suspicion -> what it means."""
PREFERENCE = "Preference data: the chosen answer is learned, the rejected one is kept for later stages."
BINS = 32
"""Bars of the histogram of lengths."""


@dataclass
class SourceAccount(Counts):
    """What became of the rows of one source."""

    source: Source
    """The source."""
    train: int = 0
    """Rows to learn from, before copies."""
    held_out: int = 0
    """Rows kept away from training."""
    besides: Counter[str] = field(default_factory=Counter)
    """What was met but is no row, such as files, or sections that are too short."""
    places: dict[str, list[str]] = field(default_factory=dict)
    """Where the first of these were met, of the kinds that have a place."""

    def rows(self) -> dict[str, Any]:
        """The numbers of this source, after a check that they add up."""
        assert self.read + self.added == self.used + self.dropped.total(), "a row was lost without being counted"
        assert self.used == self.train + self.held_out, "a row is neither learned nor held out"
        return {
            **{name: getattr(self, name) for name in ("read", "used", "train", "held_out", "added", "truncated")},
            "dropped": {reason.value: self.dropped[reason] for reason in Dropped if self.dropped[reason]},
        }


class Account:
    """What became of the rows of all sources."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = [SourceAccount(source) for source in sources]
        self.suspects: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.warnings: list[dict[str, Any]] = []

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        self.sources[batch.source].add(batch)
        self.suspects.update(batch.suspects)
        for kind, places in batch.examples.items():
            self._note(kind, places)

    def close(self) -> None:
        """Take over the rows that could not even be read, which the readers count."""
        for account in self.sources:
            malformed = account.besides.pop(MALFORMED, 0)
            account.read += malformed
            account.dropped[Dropped.MALFORMED] += malformed
            self._note(Dropped.MALFORMED, account.places.get(MALFORMED, ()))

    def drop(self, source: int, reason: Dropped, count: int, places: Sequence[str] = ()) -> None:
        """Take back rows that were counted as used."""
        self.sources[source].used -= count
        self.sources[source].dropped[reason] += count
        self._note(reason, places)

    def warn(self, kind: str, count: int, text: str, places: Sequence[str] = ()) -> None:
        """Something that a person should look at."""
        self.warnings.append({"kind": kind, "count": count, "text": text, "examples": list(places[:EXAMPLES])})

    def total(self) -> dict[str, Any]:
        """The numbers of all sources together."""
        parts = [source.rows() for source in self.sources]
        dropped: Counter[str] = Counter()
        for part in parts:
            dropped.update(part["dropped"])
        names = ("read", "used", "train", "held_out", "added", "truncated")
        return {name: sum(part[name] for part in parts) for name in names} | {"dropped": dict(dropped)}

    def report(self) -> dict[str, Any]:
        """The part of `report.json` that is about rows."""
        pairs = {account.source.name: account.formats["preference"] for account in self.sources}
        if any(pairs.values()):
            self.warn("preference", sum(pairs.values()), PREFERENCE, [name for name, count in pairs.items() if count])
        for kind, count in self.suspects.items():
            self.warn(kind, count, MEANINGS[kind], self.examples.get(kind, ()))
        characters = sum(source.characters for source in self.sources)
        examples = sum(source.examples_used for source in self.sources)
        total = self.total()
        reasons = {reason.value for reason in Dropped}
        return {
            "rows": total,
            "sources": {
                account.source.name: {
                    "path": account.source.path,
                    "formats": dict(account.formats),
                    "weight": account.source.weight,
                    "rows": account.rows(),
                    "besides": dict(account.besides),
                }
                for account in self.sources
            },
            "characters": {"total": characters, "mean": round(characters / max(examples, 1), 2)},
            "warnings": self.warnings,
            "dropped_examples": {kind: places for kind, places in self.examples.items() if kind in reasons},
        }

    def _note(self, kind: str, places: Sequence[str]) -> None:
        known = self.examples.setdefault(kind, [])
        known += [place for place in places if place not in known][: EXAMPLES - len(known)]


def lengths(train: "NDArray[Any]", trained: "NDArray[Any]", held_out: "NDArray[Any]", longest: int) -> dict[str, Any]:
    """Tokens: sums, shares and a histogram up to `longest`, from each row's tokens and trained tokens."""
    import numpy as np

    total, learned = int(train.sum()), int(trained.sum())
    top = int(max(train.max(initial=1), 1))
    edges = np.unique(np.linspace(0, min(longest, top) + 1, BINS + 1).astype(int))
    return {
        "train": total,
        "trained": learned,
        "share_trained": round(learned / max(total, 1), 4),
        "longest": int(train.max(initial=0)),
        "mean": round(total / max(len(train), 1), 2),
        "held_out": int(held_out.sum()),
        "histogram": {
            "edges": edges.tolist(),
            "train": np.histogram(train, edges)[0].tolist(),
            "trained": np.histogram(trained, edges)[0].tolist(),
        },
    }


def metrics(report: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a report that go into the manifest."""
    tokens = {name: value for name, value in report["tokens"].items() if name != "histogram"}
    others = ("rows", "characters", "packing", "duplicates", "leaks")
    return {name: report[name] for name in others} | {"tokens": tokens}
