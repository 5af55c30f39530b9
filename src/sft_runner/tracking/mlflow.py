"""MLflow: one parent run for the pipeline, one child run for each stage. The only module that imports mlflow.

Every call names its run. Nothing here uses MLflow's global active run, so several runs can be open at once and nothing
is declared FINISHED when the process dies: such a run stays RUNNING until the next command marks it KILLED.
"""

import json
import logging
import math
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"  # read while mlflow is imported
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# MLflow's own 7 retries of 120 s would hold a run for minutes where a server is down.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor  # noqa: E402
from mlflow.tracking.context.default_context import DefaultRunContext  # noqa: E402
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE  # noqa: E402

from sft_runner.page import without_links  # noqa: E402
from sft_runner.tracking import sqlite  # noqa: E402
from sft_runner.tracking.numbers import is_number, measured, results  # noqa: E402
from sft_runner.tracking.tracker import RunInfo  # noqa: E402

STATUS = {"completed": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}
LARGEST_ARTIFACT = 64 * 10**6
"""Bytes of a file or folder that is still copied; of a larger one only the place is noted."""
FLUSH_SECONDS = 1.0
"""Metrics wait at most so long for the next report, then are sent in one batch."""
_PARAMS_PER_BATCH, _METRICS_PER_BATCH, _VALUE_LENGTH, _TAG_LENGTH, _DIGEST_LENGTH = 100, 1000, 6000, 8000, 36
_Value = TypeVar("_Value")
_NOT_IN_NAMES = re.compile(r"[^\w.\- :/]")
_WITHOUT_ARTIFACT_STORE = ("sqlite", "postgresql", "mysql", "mssql")

for _library in ("mlflow", "alembic", "sqlalchemy"):
    logging.getLogger(_library).setLevel(logging.WARNING)  # their INFO lines would cut through the progress display


@dataclass
class _Child:
    """The run of a stage that is at work."""

    run_id: str
    """MLflow's id."""
    monitor: SystemMetricsMonitor
    """Thread that samples processor, memory, disk, network and cards."""
    started: float = field(default_factory=time.monotonic)
    """Start, in seconds of the monotonic clock."""
    sent: float = field(default_factory=time.monotonic)
    """Last batch, in seconds of the monotonic clock."""
    pending: list[Metric] = field(default_factory=list)
    """Metrics that were not sent yet."""
    step: int = 0
    """Highest step that was reported."""


class MlflowTracker:
    """Tells an MLflow tracking server, or a SQLite file below `output_dir` where no `uri` is given."""

    def __init__(self, output_dir: Path, experiment: str, uri: str | None = None) -> None:
        output_dir = output_dir.absolute()
        own = None if uri else output_dir / "mlflow.db"
        self.uri = uri or f"sqlite:///{own}"
        if (file := _sqlite_file(self.uri)) is not None:
            sqlite.create(file, open_store)
        self.client = open_store(self.uri)
        self.experiment_id = _experiment(self.client, experiment, self.uri, output_dir / "mlartifacts", own)
        self.origin: dict[str, str] = DefaultRunContext().tags()  # type: ignore[no-untyped-call]
        self.parent: str | None = None
        self.children: dict[str, _Child] = {}

    def start(self, run: RunInfo) -> str:
        tags = {**self.origin, MLFLOW_RUN_NOTE: f"Run folder: `{run.folder}`", **run.tags}
        if run.resumes:
            tags["sft.resumes"] = run.resumes
        self.parent = self._create(run.name, tags)
        params = [Param(key, _text(value)) for key, value in run.params.items() if not key.startswith("tracking.")]
        for batch in _batches(params, _PARAMS_PER_BATCH):
            self.client.log_batch(self.parent, params=batch)
        for file in (run.folder / "config.yaml", run.folder / "plan.json"):
            if file.is_file():
                self.client.log_artifact(self.parent, str(file))
        return self.parent

    def start_stage(self, stage: str) -> str:
        run_id = self._create(stage, self._child_tags(stage))
        monitor = SystemMetricsMonitor(run_id, sampling_interval=1, tracking_uri=self.uri)  # type: ignore[no-untyped-call]
        monitor.start()  # type: ignore[no-untyped-call]
        self.children[stage] = _Child(run_id, monitor)
        return run_id

    def report(self, stage: str, event: Mapping[str, Any]) -> None:
        child = self.children.get(stage)
        if child is None:
            return
        now = time.monotonic()
        # Samples grow apart with the stage's age: one of 5 s still gets some, one of days fills no database.
        child.monitor.sampling_interval = min(max((now - child.started) / 30, 1.0), 60.0)
        step = event.get("step")
        child.step = max(child.step, int(step)) if is_number(step) else child.step
        child.pending += _metrics(measured(event), child.step, event.get("time"))
        if now - child.sent >= FLUSH_SECONDS:
            self._flush(child)

    def end_stage(self, stage: str, state: str, manifest: Mapping[str, Any] | None, folder: Path | None) -> None:
        child = self.children.pop(stage, None)
        if child is None:
            return
        try:
            child.monitor.finish()  # type: ignore[no-untyped-call]
            if manifest is not None:
                child.pending += _metrics(results(manifest), child.step)
            self._flush(child)
            if manifest is not None:
                self.client.log_inputs(child.run_id, _dataset_inputs(manifest.get("datasets", [])))
            if manifest is not None and folder is not None:
                self._copy(child.run_id, folder, ["manifest.json", *manifest.get("artifacts", [])])
        finally:
            self.client.set_terminated(child.run_id, STATUS[state])

    def cached(self, stage: str, manifest: Mapping[str, Any]) -> None:
        tags = self._child_tags(stage) | {"sft.cached": "true"}
        if origin := manifest.get("mlflow_run_id"):
            tags["sft.origin_run"] = str(origin)
        run_id = self._create(stage, tags)
        for batch in _batches(_metrics(results(manifest), 0), _METRICS_PER_BATCH):
            self.client.log_batch(run_id, metrics=batch)
        self.client.log_inputs(run_id, _dataset_inputs(manifest.get("datasets", [])))
        self.client.set_terminated(run_id, STATUS["completed"])

    def attach(self, files: Sequence[Path]) -> None:
        if self.parent is None:
            return
        for file in files:
            if file.suffix == ".html" and file.is_file():
                self.client.log_text(self.parent, without_links(file.read_text(encoding="utf-8")), file.name)
            elif file.is_file():
                self.client.log_artifact(self.parent, str(file))

    def end(self, state: str, metrics: Mapping[str, float]) -> None:
        try:
            for stage in list(self.children):
                self.end_stage(stage, state, None, None)
            if self.parent is not None:
                self.client.log_batch(self.parent, metrics=_metrics(metrics, 0))
        finally:
            if self.parent is not None:
                self.client.set_terminated(self.parent, STATUS[state])

    def mark_killed(self, folder: Path, run_id: str | None) -> None:
        if run_id is None:
            return
        try:
            parent = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return  # the id is of another server, or the database was removed
            raise
        orphans = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run_id}' AND attributes.status = 'RUNNING'"
        for run in [*self.client.search_runs([parent.info.experiment_id], orphans), parent]:
            if run.info.status == "RUNNING":
                self.client.set_terminated(run.info.run_id, "KILLED")

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        texts = {key: str(value)[:_TAG_LENGTH] for key, value in tags.items()}
        return str(self.client.create_run(self.experiment_id, tags=texts, run_name=name).info.run_id)

    def _child_tags(self, stage: str) -> dict[str, str]:
        parent = {MLFLOW_PARENT_RUN_ID: self.parent} if self.parent is not None else {}
        return {**self.origin, **parent, "sft.stage": stage}

    def _flush(self, child: _Child) -> None:
        for batch in _batches(child.pending, _METRICS_PER_BATCH):
            self.client.log_batch(child.run_id, metrics=batch)
        child.pending, child.sent = [], time.monotonic()

    def _copy(self, run_id: str, folder: Path, names: Sequence[str]) -> None:
        """Copy files and folders of a stage's output to the run's artifacts; note those that are too large."""
        left: list[str] = []
        for name in names:
            path, above = folder / name, str(Path(name).parent)
            size = sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())
            if size > LARGEST_ARTIFACT:
                left.append(f"{path} ({size / 1e6:.0f} MB)")
            elif path.is_dir():
                self.client.log_artifacts(run_id, str(path), name)
            elif path.is_file():
                self.client.log_artifact(run_id, str(path), None if above == "." else above)
        if left:
            self.client.set_tag(run_id, "sft.not_copied", "\n".join(left)[:_TAG_LENGTH])


def open_store(uri: str) -> MlflowClient:
    """A client whose store is open; a new database gets its tables here."""
    with warnings.catch_warnings():
        # MLflow's tables are declared with an option that SQLAlchemy 2.1 deprecates; nothing of ours can change that.
        warnings.filterwarnings("ignore", message="The ``noload`` loader strategy is deprecated")
        return MlflowClient(tracking_uri=uri)


def _sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite address; None for one in memory, with options, or of another kind."""
    name = uri.removeprefix("sqlite:///")
    return Path(name) if name not in (uri, "", ":memory:") and "?" not in name else None


def _experiment(client: MlflowClient, name: str, uri: str, artifacts: Path, own: Path | None) -> str:
    """The experiment's id. Where a database has no artifact store of its own, `artifacts` becomes it."""
    place = artifacts.as_uri() if urlsplit(uri).scheme.split("+")[0] in _WITHOUT_ARTIFACT_STORE else None
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=place))
        except MlflowException as error:  # two runs may begin at once
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or not (found := client.get_experiment_by_name(name)):
                raise
    if own is not None and place is not None and found.artifact_location != place:
        sqlite.move(own, found.artifact_location, place)  # `output_dir` was moved or copied
    return str(found.experiment_id)


def _metrics(values: Mapping[str, float], step: int, at: float | None = None) -> list[Metric]:
    """MLflow's metrics; `at` is in seconds since 1970. Infinity, which a database cannot order, becomes NaN."""
    milliseconds = int((at or time.time()) * 1000)
    return [
        Metric(_NOT_IN_NAMES.sub("_", key), value if math.isfinite(value) else math.nan, milliseconds, step)
        for key, value in values.items()
    ]


def _dataset_inputs(datasets: Sequence[Mapping[str, Any]]) -> list[DatasetInput]:
    """MLflow's entities. It keeps one input for each name and digest, so a second use of the same bytes is renamed."""
    inputs: dict[tuple[str, str], DatasetInput] = {}
    for values in datasets:
        digest, context = str(values["digest"])[:_DIGEST_LENGTH], str(values["context"])
        name = values["name"] if (values["name"], digest) not in inputs else f"{values['name']} ({context})"
        inputs[name, digest] = DatasetInput(
            Dataset(
                name,
                digest,
                source_type="local",
                source=json.dumps({"uri": str(values["source"])}),
                profile=json.dumps({"num_rows": values["rows"]}),
            ),
            [InputTag(MLFLOW_DATASET_CONTEXT, context)],
        )
    return list(inputs.values())


def _text(value: object) -> str:
    """A value as it is written on the command line, shortened to what MLflow takes."""
    return (value if isinstance(value, str) else json.dumps(value, default=str))[:_VALUE_LENGTH]


def _batches(values: Sequence[_Value], size: int) -> Iterator[Sequence[_Value]]:
    return (values[start : start + size] for start in range(0, len(values), size))
