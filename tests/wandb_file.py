"""What Weights & Biases would be sent: the records of an offline run, read without its own (unexported) reader.

The file is LevelDB's log format after a header of 7 bytes: blocks of 32 KiB with chunks of checksum (4 bytes), length
(2) and type (1: whole, 2: first, 3: middle, 4: last).
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

HEADER, BLOCK, CHUNK = 7, 32768, 7


class WandbFile:
    """An offline run that has ended; its file is written by another process, which may take a moment."""

    def __init__(self, output_dir: Path, patience: float = 20.0) -> None:
        (path,) = (output_dir / "wandb").glob("offline-run-*/*.wandb")
        deadline = time.monotonic() + patience
        while True:
            self.records = [Record.FromString(record) for record in _records(path.read_bytes())]
            if any(record.HasField("exit") for record in self.records) or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        self.run = next(record.run for record in self.records if record.HasField("run"))
        self.config = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in self._config()}
        self.exit_codes = [record.exit.exit_code for record in self.records if record.HasField("exit")]

    def history(self) -> list[dict[str, Any]]:
        """What was logged, without W&B's own keys."""
        return [self._items(record.history.item) for record in self.records if record.HasField("history")]

    def summary(self) -> dict[str, Any]:
        """The summary at the end."""
        found: dict[str, Any] = {}
        for record in self.records:
            if record.HasField("summary"):
                found |= self._items(record.summary.update)
        return found

    def metrics(self) -> dict[str, str]:
        """Pattern -> the metric that is its horizontal axis."""
        return {r.metric.glob_name or r.metric.name: r.metric.step_metric for r in self.records if r.HasField("metric")}

    def kinds(self) -> set[str]:
        """The kinds of records."""
        return {str(record.WhichOneof("record_type")) for record in self.records}

    def _config(self) -> Iterator[Any]:
        for record in self.records:
            if record.HasField("run"):
                yield from record.run.config.update

    @staticmethod
    def _items(items: Any) -> dict[str, Any]:
        found = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
        return {key: value for key, value in found.items() if not key.startswith("_")}


def _records(data: bytes) -> Iterator[bytes]:
    place, whole = HEADER, b""
    while place + CHUNK <= len(data):
        left = BLOCK - place % BLOCK
        if left < CHUNK:
            place += left
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        part = data[place + CHUNK : place + CHUNK + length]
        if len(part) < length:
            return
        place += CHUNK + length
        whole = part if kind in (1, 2) else whole + part
        if kind in (1, 4):
            yield whole
