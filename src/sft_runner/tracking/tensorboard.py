"""TensorBoard: a folder for each run, and in it one for each stage. The only module that imports tensorboard.

The records are written with the format of the package itself, into a plain file: `tensorboard.summary` would import
TensorFlow wherever that is installed, and torch's writer would import torch into the runner.
"""

import math
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from platform import node
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.hparams import api_pb2, metadata, summary_v2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.plugins.text.metadata import create_summary_metadata as text_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from sft_runner.tracking.numbers import is_number, measured, results
from sft_runner.tracking.tracker import RunInfo

FLUSH_SECONDS = 1.0
"""A process that is killed loses at most the records of so long."""
STATUS = {"completed": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE, "cancelled": api_pb2.STATUS_FAILURE}
RGBA = 4
"""Channels of a picture, in the words of its protocol."""


class TensorboardTracker:
    """Event files below `root`: `<name>/<time>-<hex>` for a run, `<name>/<time>-<hex>/train` for one of its stages."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[str, _EventFile] = {}
        self.steps: dict[str, int] = {}

    def start(self, run: RunInfo) -> None:
        self.run = self._place(run.folder)
        file = self.files[""] = _EventFile(self.run)
        params = {key: _plain(value) for key, value in run.params.items() if not key.startswith("tracking.")}
        file.add(summary_v2.hparams_pb(params, trial_id=str(run.folder)))
        tags = {**run.tags, **({"sft.resumes": run.resumes} if run.resumes else {})}
        file.add(_text("run", "\n".join(f"- {key}: `{value}`" for key, value in tags.items())))
        if (path := run.folder / "config.yaml").is_file():
            file.add(_text("config.yaml", _code(path.read_text(encoding="utf-8"))))
        file.flush()

    def start_stage(self, stage: str) -> None:
        self.files[stage], self.steps[stage] = _EventFile(self.run / stage), 0

    def report(self, stage: str, event: Mapping[str, Any]) -> None:
        if stage not in self.files:
            return
        step = event.get("step")
        self.steps[stage] = max(self.steps[stage], int(step)) if is_number(step) else self.steps[stage]
        self.files[stage].add(_scalars(measured(event)), self.steps[stage], event.get("time"))

    def end_stage(self, stage: str, state: str, manifest: Mapping[str, Any] | None, folder: Path | None) -> None:
        file = self.files.pop(stage, None)
        if file is None:
            return
        if manifest is not None:
            file.add(_scalars(results(manifest), "result/"), self.steps[stage])
        for name in manifest.get("artifacts", ()) if manifest is not None and folder is not None else ():
            if (path := folder / name).suffix == ".png" and path.is_file():
                file.add(_picture(name, path.read_bytes()), self.steps[stage])
        file.close(_text("state", state))

    def cached(self, stage: str, manifest: Mapping[str, Any]) -> None:
        file = _EventFile(self.run / stage)
        file.add(_scalars(results(manifest), "result/"))
        origin = f"cached: stages/{stage}/{manifest.get('fingerprint')}, made {manifest.get('created')}"
        file.close(_text("state", origin))

    def attach(self, files: Sequence[Path]) -> None:
        """Markdown is shown as text; TensorBoard has no place for pages."""
        file = self.files.get("")
        for path in files if file else ():
            if file and path.suffix == ".md" and path.is_file():
                file.add(_text(path.name, path.read_text(encoding="utf-8")))

    def end(self, state: str, metrics: Mapping[str, float]) -> None:
        for stage in [name for name in self.files if name]:
            self.end_stage(stage, state, None, None)
        if file := self.files.pop("", None):
            file.add(_scalars(metrics))
            file.add(_session_end(STATUS[state]))
            file.close(_text("state", state))

    def mark_killed(self, folder: Path, run_id: str | None) -> None:
        if (place := self._place(folder)).is_dir():
            file = _EventFile(place)
            file.add(_session_end(api_pb2.STATUS_FAILURE))
            file.close(_text("state", "killed"))

    def _place(self, folder: Path) -> Path:
        """Where the run of a run folder lies."""
        return self.root / folder.parent.name / folder.name


class _EventFile:
    """One file of records; killed at any moment, it can be read up to its last whole record."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{node()}.{os.getpid()}.{secrets.token_hex(2)}"
        self.records = RecordWriter(open(folder / name, "xb"))  # noqa: SIM115 lives as long as the stage
        self.flushed = time.monotonic()
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, summary: Summary, step: int = 0, at: float | None = None) -> None:
        """Write a summary; `at` is in seconds since 1970."""
        if summary.value:
            self._write(Event(wall_time=at or time.time(), step=step, summary=summary))

    def flush(self) -> None:
        self.records.flush()
        self.flushed = time.monotonic()

    def close(self, last: Summary) -> None:
        """Write the last summary and end the file."""
        self.add(last)
        self.records.close()

    def _write(self, event: Event) -> None:
        self.records.write(event.SerializeToString())
        if time.monotonic() - self.flushed >= FLUSH_SECONDS:
            self.flush()


def _scalars(values: Mapping[str, float], prefix: str = "") -> Summary:
    return Summary(value=[Summary.Value(tag=prefix + key, simple_value=value) for key, value in values.items()])


def _text(tag: str, markdown: str) -> Summary:
    content = TensorProto(dtype=DT_STRING, string_val=[markdown.encode()])
    return Summary(value=[Summary.Value(tag=tag, metadata=text_metadata(tag, ""), tensor=content)])


def _code(text: str) -> str:
    """Text as a Markdown block that keeps its lines."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _picture(tag: str, png: bytes) -> Summary:
    width, height = (int.from_bytes(png[place : place + 4], "big") for place in (16, 20))  # of PNG's first chunk
    image = Summary.Image(width=width, height=height, colorspace=RGBA, encoded_image_string=png)
    return Summary(value=[Summary.Value(tag=tag, image=image)])


def _session_end(status: int) -> Summary:
    data = HParamsPluginData(session_end_info=SessionEndInfo(status=status, end_time_secs=time.time()))
    about: SummaryMetadata = metadata.create_summary_metadata(data)
    tag = metadata.SESSION_END_INFO_TAG
    return Summary(value=[Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)])


def _plain(value: object) -> bool | float | str:
    """A value as hyperparameters take it."""
    if isinstance(value, bool | str) or (is_number(value) and math.isfinite(value)):
        return value
    return "" if value is None else str(value)
