"""`events.jsonl`: what a stage says while it works, one JSON object a line. Progress, trackers and pages read it."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class EventWriter:
    """Appends events to a file; a `Report` for a stage."""

    def __init__(self, path: Path) -> None:
        self.file = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 lives as long as the stage
        if self.file.tell() and not path.read_bytes().endswith(b"\n"):
            self.file.write("\n")  # a killed writer left half a line

    def __call__(self, **values: Any) -> None:
        self.file.write(json.dumps({"time": round(time.time(), 3), **values}, default=str) + "\n")

    def close(self) -> None:
        self.file.close()


class EventReader:
    """Reads the events that were added since the last look."""

    def __init__(self, path: Path, from_end: bool = False) -> None:
        self.path = path
        self.position = path.stat().st_size if from_end and path.exists() else 0

    def new(self) -> Iterator[dict[str, Any]]:
        """Events not seen yet; a line that is still being written waits for the next look."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self.position)
                lines = file.read().split(b"\n")
        except OSError:
            return
        for line in lines[:-1]:
            self.position += len(line) + 1
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event
