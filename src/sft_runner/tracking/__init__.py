"""Who is told what happens in a run; `make` chooses by the configuration."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from sft_runner.config.schema import Config
from sft_runner.tracking.safe import SafeTracker
from sft_runner.tracking.tracker import NullTracker, Tracker


def make(config: Config, output_dir: Path, warn: Callable[[str], None] | None = None) -> Tracker:
    """The trackers of a run. Cheap: a tracker's library is imported when it is first told something.

    `warn` gets one line when a tracker fails; without it the line goes to stderr.
    """
    trackers: dict[str, Callable[[], Tracker]] = {}
    if config.tracking.mlflow.enabled:
        trackers["mlflow"] = lambda: _mlflow(config, output_dir)
    return SafeTracker(trackers, warn or _to_stderr) if trackers else NullTracker()


def _mlflow(config: Config, output_dir: Path) -> Tracker:
    from sft_runner.tracking.mlflow import MlflowTracker

    wanted = config.tracking.mlflow
    return MlflowTracker(output_dir, wanted.experiment, wanted.uri or os.environ.get("MLFLOW_TRACKING_URI"))


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)
