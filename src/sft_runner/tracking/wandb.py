"""Weights & Biases: one run for the command, with a prefix for each stage. The only module that imports wandb.

It hears numbers, settings and pictures: no code, no rows, nothing that is printed. wandb itself reads the key from
`WANDB_API_KEY`; it is written nowhere.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["WANDB_ERROR_REPORTING"] = "false"  # its reports of its own errors and use; read while wandb is imported

import wandb  # noqa: E402

from sft_runner.tracking.numbers import is_number, measured, results  # noqa: E402
from sft_runner.tracking.tracker import RunInfo  # noqa: E402

EXIT_CODES = {"completed": 0, "failed": 1, "cancelled": 130}
"""What W&B is told; it calls a run with any code but 0 failed."""
START_SECONDS, END_SECONDS = 30.0, 60.0
"""How long a server that does not answer may hold a run; what was not sent stays on the disk for `wandb sync`."""
TAG_LENGTH = 64
"""Characters that W&B takes."""
_LONG = ("sft.folder", "sft.overrides")


class WandbTracker:
    """Tells Weights & Biases, or with `offline` only the folder `wandb` below `output_dir`."""

    def __init__(self, output_dir: Path, project: str, entity: str | None, offline: bool) -> None:
        self.output_dir, self.project, self.entity = output_dir, project, entity
        self.offline = offline
        self.run: Any = None

    def start(self, run: RunInfo) -> None:
        params = {key: value for key, value in run.params.items() if not key.startswith("tracking.")}
        resumes = {"sft.resumes": run.resumes} if run.resumes else {}
        tags = [f"{key.removeprefix('sft.')}={value}" for key, value in run.tags.items() if key not in _LONG]
        self.run = wandb.init(
            project=self.project,
            entity=self.entity,
            id=run.folder.name,
            name=run.name,
            group=run.tags.get("sft.sweep"),
            config={**params, **run.tags, **resumes},
            tags=[tag for tag in tags if len(tag) <= TAG_LENGTH],
            dir=self.output_dir,
            mode="offline" if self.offline else "online",
            reinit="create_new",  # the jobs of a sweep are runs of their own in one process
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_code=True,
                disable_git=True,
                save_code=False,
                x_disable_meta=True,  # the command line as it was typed, which may hold more than the masked one
                x_save_requirements=False,
                stop_fn=_stay,
                init_timeout=START_SECONDS,
                finish_timeout=END_SECONDS,
            ),
        )

    def start_stage(self, stage: str) -> None:
        self.run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")

    def report(self, stage: str, event: Mapping[str, Any]) -> None:
        values = {f"{stage}/{key}": value for key, value in measured(event).items()}
        if values and is_number(step := event.get("step")):
            values[f"{stage}/step"] = step
        if values:
            self.run.log(values)

    def end_stage(self, stage: str, state: str, manifest: Mapping[str, Any] | None, folder: Path | None) -> None:
        self._summarize(stage, {"state": state, **(results(manifest) if manifest else {})})
        for name in manifest.get("artifacts", ()) if manifest and folder else ():
            if folder and (path := folder / name).suffix == ".png" and path.is_file():
                self.run.log({f"{stage}/{path.stem}_picture": wandb.Image(str(path))})

    def cached(self, stage: str, manifest: Mapping[str, Any]) -> None:
        origin = {"fingerprint": manifest.get("fingerprint"), "made": manifest.get("created")}
        self._summarize(stage, {"state": "cached", **origin, **results(manifest)})

    def attach(self, files: Sequence[Path]) -> None:
        """Nothing: the run's report holds rows and answers, which stay on this machine."""

    def end(self, state: str, metrics: Mapping[str, float]) -> None:
        run, self.run = self.run, None
        if run is not None:
            run.summary.update({**metrics, "state": state})
            run.finish(exit_code=EXIT_CODES[state])

    def mark_killed(self, folder: Path, run_id: str | None) -> None:
        """Nothing to say: W&B itself calls a run crashed that it has not heard of for some minutes."""

    def _summarize(self, stage: str, values: Mapping[str, Any]) -> None:
        self.run.summary.update({f"{stage}/{key}": value for key, value in values.items()})


def _stay() -> None:
    """The page's stop button would otherwise interrupt the runner; a tracker is told, never asked."""
