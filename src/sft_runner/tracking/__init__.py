"""Who is told what happens in a run; `make` chooses by the configuration."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from sft_runner.config.schema import Config
from sft_runner.tracking import requirements
from sft_runner.tracking.safe import SafeTracker
from sft_runner.tracking.tracker import NullTracker, Tracker


def make(config: Config, output_dir: Path, warn: Callable[[str], None] | None = None) -> Tracker:
    """The trackers of a run. Cheap: a tracker's library is imported when it is first told something.

    `warn` gets one line when a tracker fails; without it the line goes to stderr. Raises `MachineError` where a package
    or a key is missing, so that nobody finds it out after a day of training.
    """
    requirements.check(config.tracking)
    makers = {"mlflow": _mlflow, "tensorboard": _tensorboard, "wandb": _wandb}
    trackers = {name: _later(makers[name], config, output_dir) for name in requirements.enabled(config.tracking)}
    return SafeTracker(trackers, warn or _to_stderr) if trackers else NullTracker()


def _later(maker: Callable[[Config, Path], Tracker], config: Config, output_dir: Path) -> Callable[[], Tracker]:
    return lambda: maker(config, output_dir)


def _mlflow(config: Config, output_dir: Path) -> Tracker:
    from sft_runner.tracking.mlflow import MlflowTracker

    wanted = config.tracking.mlflow
    return MlflowTracker(output_dir, wanted.experiment, wanted.uri or os.environ.get("MLFLOW_TRACKING_URI"))


def _tensorboard(config: Config, output_dir: Path) -> Tracker:
    from sft_runner.tracking.tensorboard import TensorboardTracker

    wanted = config.tracking.tensorboard
    return TensorboardTracker(Path(wanted.dir).expanduser() if wanted.dir else output_dir / "tensorboard")


def _wandb(config: Config, output_dir: Path) -> Tracker:
    from sft_runner.tracking.wandb import WandbTracker

    wanted = config.tracking.wandb
    return WandbTracker(output_dir, wanted.project, wanted.entity, requirements.offline(wanted))


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)
