"""A tracker that cannot stop a run: whatever fails in it is said once, and it is told nothing more but the end."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sft_runner.masking import masked
from sft_runner.tracking.tracker import RunInfo, Tracker


class SafeTracker:
    """Passes everything on to several trackers, each built when it is first told something.

    `trackers` maps the name that the user knows to a function that builds it; `warn` gets one line for each that fails.
    An interrupt is not a failure and passes through.
    """

    def __init__(self, trackers: Mapping[str, Callable[[], Tracker]], warn: Callable[[str], None]) -> None:
        self.makers = dict(trackers)
        self.trackers: dict[str, Tracker] = {}
        self.warn = warn

    def start(self, run: RunInfo) -> str | None:
        return self._tell(lambda tracker: tracker.start(run))

    def start_stage(self, stage: str) -> str | None:
        return self._tell(lambda tracker: tracker.start_stage(stage))

    def report(self, stage: str, event: Mapping[str, Any]) -> None:
        self._tell(lambda tracker: tracker.report(stage, event))

    def end_stage(self, stage: str, state: str, manifest: Mapping[str, Any] | None, folder: Path | None) -> None:
        self._tell(lambda tracker: tracker.end_stage(stage, state, manifest, folder))

    def cached(self, stage: str, manifest: Mapping[str, Any]) -> None:
        self._tell(lambda tracker: tracker.cached(stage, manifest))

    def attach(self, files: Sequence[Path]) -> None:
        self._tell(lambda tracker: tracker.attach(files))

    def end(self, state: str, metrics: Mapping[str, float]) -> None:
        for name, tracker in self.trackers.items():
            if name not in self.makers:  # what failed once may work again, and a run should not stay open for ever
                with suppress(Exception):
                    tracker.end(state, metrics)
        self._tell(lambda tracker: tracker.end(state, metrics))

    def mark_killed(self, folder: Path, run_id: str | None) -> None:
        self._tell(lambda tracker: tracker.mark_killed(folder, run_id))

    def _tell(self, call: Callable[[Tracker], str | None]) -> str | None:
        """Call every tracker that still works; the first id that one of them returns."""
        ids = []
        for name in list(self.makers):
            try:
                if name not in self.trackers:
                    self.trackers[name] = self.makers[name]()
                ids.append(call(self.trackers[name]))
            except Exception as error:  # a tracker may fail in any way; training goes on in all of them
                del self.makers[name]
                self.warn(f"tracking.{name} failed and is off for the rest of this run: {_one_line(error)}")
        return next((found for found in ids if found is not None), None)


def _one_line(error: Exception) -> str:
    """The error's kind and first line, without the secrets that an address may hold."""
    lines = str(error).strip().splitlines()
    return masked(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)
