"""Who is told what happens. Told, never asked: nothing in a run depends on a tracker's answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class RunInfo:
    """What a tracker learns about a run when it begins."""

    name: str
    """Name of the run, by default the recipe's."""
    folder: Path
    """The run folder: `config.yaml`, `plan.json`, `run.json`."""
    params: Mapping[str, Any]
    """The resolved configuration, flattened: `lora.r`."""
    tags: Mapping[str, str]
    """Choices of groups, and the sweep if it is part of one."""
    resumes: str | None = None
    """`<name>/<time>-<hex>` of the interrupted run that this one goes on from."""


class Tracker(Protocol):
    """A place where runs are recorded. One parent for the run, one child for each stage."""

    def start(self, run: RunInfo) -> str | None:
        """The run begins; returns the tracker's id for it where it makes one of its own, as MLflow does."""

    def start_stage(self, stage: str) -> str | None:
        """A stage begins to work; returns the tracker's id for it, like `start`."""

    def report(self, stage: str, event: Mapping[str, Any]) -> None:
        """One line of the stage's `events.jsonl`."""

    def end_stage(self, stage: str, state: str, manifest: Mapping[str, Any] | None, folder: Path | None) -> None:
        """The stage ended as `completed`, `failed` or `cancelled`; `folder` holds its output and the manifest."""

    def cached(self, stage: str, manifest: Mapping[str, Any]) -> None:
        """The stage's output was found; the manifest says when and by which run it was made."""

    def attach(self, files: Sequence[Path]) -> None:
        """Files of the run itself, to be copied where the tracker keeps any."""

    def end(self, state: str, metrics: Mapping[str, float]) -> None:
        """The run ended as `completed`, `failed` or `cancelled`, with its headline metrics."""

    def mark_killed(self, folder: Path, run_id: str | None) -> None:
        """An earlier run was killed before it could say so: its run folder, and the id that `start` gave it."""


class NullTracker:
    """`tracking=none`."""

    def start(self, run: RunInfo) -> str | None:
        return None

    def start_stage(self, stage: str) -> str | None:
        return None

    def report(self, stage: str, event: Mapping[str, Any]) -> None:
        return None

    def end_stage(self, stage: str, state: str, manifest: Mapping[str, Any] | None, folder: Path | None) -> None:
        return None

    def cached(self, stage: str, manifest: Mapping[str, Any]) -> None:
        return None

    def attach(self, files: Sequence[Path]) -> None:
        return None

    def end(self, state: str, metrics: Mapping[str, float]) -> None:
        return None

    def mark_killed(self, folder: Path, run_id: str | None) -> None:
        return None


@dataclass
class MemoryTracker:
    """Keeps everything it is told, for tests: `calls` is a list of `(method, arguments)`."""

    calls: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)

    def start(self, run: RunInfo) -> str | None:
        self.calls.append(("start", (run,)))
        return "memory"

    def start_stage(self, stage: str) -> str | None:
        self.calls.append(("start_stage", (stage,)))
        return f"memory-{stage}"

    def report(self, stage: str, event: Mapping[str, Any]) -> None:
        self.calls.append(("report", (stage, dict(event))))

    def end_stage(self, stage: str, state: str, manifest: Mapping[str, Any] | None, folder: Path | None) -> None:
        self.calls.append(("end_stage", (stage, state, manifest, folder)))

    def cached(self, stage: str, manifest: Mapping[str, Any]) -> None:
        self.calls.append(("cached", (stage, dict(manifest))))

    def attach(self, files: Sequence[Path]) -> None:
        self.calls.append(("attach", (list(files),)))

    def end(self, state: str, metrics: Mapping[str, float]) -> None:
        self.calls.append(("end", (state, dict(metrics))))

    def mark_killed(self, folder: Path, run_id: str | None) -> None:
        self.calls.append(("mark_killed", (folder, run_id)))
