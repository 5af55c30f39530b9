"""What is read once, however many recipes ask for it."""

from dataclasses import asdict
from pathlib import Path

from sft_runner.config.schema import Data
from sft_runner.fingerprint import Hashes
from sft_runner.review.diff import figures


class SeenHashes(Hashes):
    """Remembers what lies in the project, and reads each file of a side's own once."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[Path, str] = {}

    def of(self, path: Path) -> str:
        """The hash of one file; of a link that of the file it leads to."""
        if path not in self.seen:
            self.seen[path] = super().of(path.resolve())
        return self.seen[path]

    def save(self) -> None:
        """What lies in this side's folder is gone after the command, so it is not remembered."""
        own = str(Path.cwd().resolve())
        self.known = {path: entry for path, entry in self.known.items() if not path.startswith(own)}
        super().save()


class SeenRows:
    """Counts the rows of the same data once."""

    def __init__(self) -> None:
        self.seen: dict[str, int | None] = {}

    def of(self, data: Data) -> int | None:
        """At most so many rows."""
        key = repr(asdict(data))
        if key not in self.seen:
            self.seen[key] = figures.most_rows(data)
        return self.seen[key]
