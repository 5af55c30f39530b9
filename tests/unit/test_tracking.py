"""Trackers, against a real SQLite store read back with MLflow's own client."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from sft_runner import load
from sft_runner.config.schema import Config, Mlflow, Tracking
from sft_runner.stages.stage import Dataset
from sft_runner.tracking import make, sqlite
from sft_runner.tracking import mlflow as tracking
from sft_runner.tracking.mlflow import MlflowTracker, open_store
from sft_runner.tracking.requirements import enabled
from sft_runner.tracking.safe import SafeTracker
from sft_runner.tracking.tracker import MemoryTracker, NullTracker, RunInfo, Tracker

DATASET = Dataset(name="dates.jsonl", source="data/dates.jsonl", digest="d" * 64, rows=90, context="training")
MANIFEST: dict[str, Any] = {
    "stage": "evaluate",
    "metrics": {"base": {"exact_match": 0.0}, "tuned": {"exact_match": 1.0, "loss": 0.01}, "note": "text"},
    "datasets": [asdict(DATASET)],
    "artifacts": [],
    "seconds": 2.5,
    "mlflow_run_id": "a" * 32,
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs; making one takes a second."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    sqlite.create(path, open_store)
    return path


@pytest.fixture
def output_dir(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    folder = tmp_path / "out put=1"
    folder.mkdir()
    shutil.copy(database, folder / "mlflow.db")
    return folder


@pytest.fixture
def tracker(output_dir: Path) -> MlflowTracker:
    return MlflowTracker(output_dir, "sft_runner")


def info(folder: Path, **changes: Any) -> RunInfo:
    return RunInfo(**{"name": "dates", "folder": folder, "params": {}, "tags": {}, **changes})


def finished(tracker: MlflowTracker, stage: str, manifest: dict[str, Any], folder: Path) -> Any:
    """The MLflow run of a stage that completes with this manifest."""
    run_id = tracker.start_stage(stage)
    tracker.end_stage(stage, "completed", manifest, folder)
    return tracker.client.get_run(run_id)


def artifacts(tracker: MlflowTracker, run_id: str, path: str | None = None) -> list[str]:
    return [item.path for item in tracker.client.list_artifacts(run_id, path)]


def test_parent_run_holds_configuration_tags_and_run_folder(tracker: MlflowTracker, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("lora: {r: 8}\n")
    (tmp_path / "plan.json").write_text("{}")
    (tmp_path / "run.json").write_text("{}")
    params = {f"data.columns.{number}": number for number in range(150)} | {
        "lora.r": 8,
        "train.max_steps": None,
        "data.path": "x" * 7000,
        "tracking.mlflow.uri": "https://user:secret@host",
    }
    run_id = tracker.start(info(tmp_path, params=params, tags={"sft.recipe": "dates"}, resumes="dates/earlier"))
    run = tracker.client.get_run(run_id)
    assert run.info.run_name == "dates"
    assert run.info.status == "RUNNING"
    assert (run.data.params["lora.r"], run.data.params["train.max_steps"]) == ("8", "null")
    assert len(run.data.params["data.path"]) == 6000
    assert len(run.data.params) == 153
    assert "secret" not in str(run.to_dictionary())
    assert (run.data.tags["sft.recipe"], run.data.tags["sft.resumes"]) == ("dates", "dates/earlier")
    assert str(tmp_path) in run.data.tags["mlflow.note.content"]
    assert artifacts(tracker, run_id) == ["config.yaml", "plan.json"]


def test_stage_is_a_child_with_metrics_by_step(tracker: MlflowTracker, tmp_path: Path) -> None:
    parent = tracker.start(info(tmp_path))
    child = tracker.start_stage("train")
    for step in (1, 2, 3):
        tracker.report(
            "train",
            {"time": 1000.5 + step, "step": step, "steps": 3, "loss": 1 / step, "message": "saved", "last": step == 3},
        )
    tracker.end_stage("train", "completed", {**MANIFEST, "metrics": {"loss": 0.25, "perplexity": float("inf")}}, None)
    run = tracker.client.get_run(child)
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert run.data.tags["sft.stage"] == "train"
    history = tracker.client.get_metric_history(child, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3), (3, 0.25)]
    assert [point.timestamp for point in history[:3]] == [1001500, 1002500, 1003500]
    assert run.data.metrics["loss"] == 0.25
    assert run.data.metrics["seconds"] == 2.5
    assert run.data.metrics["perplexity"] != run.data.metrics["perplexity"]
    assert {key for key in run.data.metrics if not key.startswith("system/")} == {"loss", "perplexity", "seconds"}


def test_a_flood_of_events_is_sent_in_batches(tracker: MlflowTracker, tmp_path: Path) -> None:
    tracker.start(info(tmp_path))
    child = tracker.start_stage("train")
    began = time.monotonic()
    for step in range(3000):
        tracker.report("train", {"step": step, "loss": 1.0})
    batched = time.monotonic() - began
    began = time.monotonic()
    for step in range(300):
        tracker.client.log_metric(child, "alone", 1.0, step=step)
    assert batched < time.monotonic() - began
    tracker.end_stage("train", "completed", MANIFEST, None)
    assert len(tracker.client.get_metric_history(child, "loss")) == 3000


def test_system_metrics_are_sampled_in_a_short_stage(tracker: MlflowTracker, tmp_path: Path) -> None:
    tracker.start(info(tmp_path))
    child = tracker.start_stage("train")
    deadline = time.monotonic() + 20
    while "system/cpu_utilization_percentage" not in tracker.client.get_run(child).data.metrics:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    tracker.end_stage("train", "completed", None, None)
    assert tracker.client.get_run(child).data.metrics["system/system_memory_usage_megabytes"] > 0


def test_finished_stage_has_nested_metrics_and_datasets(tracker: MlflowTracker, tmp_path: Path) -> None:
    tracker.start(info(tmp_path))
    again = {**asdict(DATASET), "rows": 10, "context": "evaluation"}
    run = finished(tracker, "evaluate", {**MANIFEST, "datasets": [asdict(DATASET), again]}, tmp_path)
    assert (run.data.metrics["tuned.exact_match"], run.data.metrics["base.exact_match"]) == (1.0, 0.0)
    found = {item.tags[0].value: item.dataset for item in run.inputs.dataset_inputs}
    assert set(found) == {"training", "evaluation"}
    assert found["training"].name == "dates.jsonl"
    assert found["training"].digest == "d" * 36
    assert json.loads(found["training"].source) == {"uri": "data/dates.jsonl"}
    assert json.loads(found["evaluation"].profile) == {"num_rows": 10}


def test_artifacts_are_copied_unless_they_are_large(
    tracker: MlflowTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "LARGEST_ARTIFACT", 1000)
    folder = tmp_path / "stage"
    (folder / "adapter").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "adapter" / "config.json").write_text("{}")
    (folder / "adapter" / "weights").write_bytes(b"w" * 900)
    (folder / "adapter" / "more").write_bytes(b"w" * 900)
    tracker.start(info(tmp_path))
    names = ["adapter", "adapter/config.json", "gone.json"]
    run = finished(tracker, "train", {**MANIFEST, "artifacts": names}, folder)
    assert artifacts(tracker, run.info.run_id) == ["adapter", "manifest.json"]
    assert artifacts(tracker, run.info.run_id, "adapter") == ["adapter/config.json"]
    assert run.data.tags["sft.not_copied"] == f"{folder / 'adapter'} (0 MB)"


def test_artifacts_lie_below_output_dir(tracker: MlflowTracker, output_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    tracker.start(info(tmp_path))
    run = finished(tracker, "prepare", MANIFEST, tmp_path)
    assert [file.name for file in (output_dir / "mlartifacts" / run.info.run_id).rglob("*.json")] == ["manifest.json"]
    assert list(Path.cwd().iterdir()) == []


def test_cached_stage_points_to_its_origin(tracker: MlflowTracker, tmp_path: Path) -> None:
    parent = tracker.start(info(tmp_path))
    tracker.cached("evaluate", MANIFEST)
    (run,) = tracker.client.search_runs([tracker.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert run.info.run_name == "evaluate"
    assert run.info.status == "FINISHED"
    assert (run.data.tags["sft.cached"], run.data.tags["sft.origin_run"]) == ("true", "a" * 32)
    assert run.data.metrics["tuned.loss"] == 0.01
    assert len(run.inputs.dataset_inputs) == 1


def test_files_of_the_run_are_attached_to_it(tracker: MlflowTracker, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("a page")
    parent = tracker.start(info(tmp_path))
    tracker.attach([tmp_path / "report.html", tmp_path / "gone.md"])
    assert artifacts(tracker, parent) == ["report.html"]


@pytest.mark.parametrize(
    ("state", "status"), [("completed", "FINISHED"), ("failed", "FAILED"), ("cancelled", "KILLED")]
)
def test_run_ends_with_its_state_and_headline(tracker: MlflowTracker, tmp_path: Path, state: str, status: str) -> None:
    parent = tracker.start(info(tmp_path))
    still_open = tracker.start_stage("train")
    tracker.end(state, {"tuned.exact_match": 0.75})
    run = tracker.client.get_run(parent)
    assert run.info.status == status
    assert run.data.metrics == {"tuned.exact_match": 0.75}
    assert tracker.client.get_run(still_open).info.status == status


def test_orphans_are_marked_killed(tracker: MlflowTracker, output_dir: Path, tmp_path: Path) -> None:
    parent = tracker.start(info(tmp_path))
    done = finished(tracker, "prepare", MANIFEST, tmp_path)
    orphan = tracker.start_stage("train")
    MlflowTracker(output_dir, "sft_runner").mark_killed(tmp_path, parent)
    status = {run: tracker.client.get_run(run).info.status for run in (parent, done.info.run_id, orphan)}
    assert status == {parent: "KILLED", done.info.run_id: "FINISHED", orphan: "KILLED"}


def test_marking_a_finished_or_unknown_run_changes_nothing(tracker: MlflowTracker, tmp_path: Path) -> None:
    parent = tracker.start(info(tmp_path))
    tracker.end("completed", {})
    for run_id in (parent, "f" * 32, "not an id", None):
        tracker.mark_killed(tmp_path, run_id)
    assert tracker.client.get_run(parent).info.status == "FINISHED"


def test_processes_that_start_at_once_and_end_early(output_dir: Path, tmp_path: Path) -> None:
    """One database, no run declared FINISHED at exit, and not a line of MLflow's on the terminal."""
    program = (
        "import logging, pathlib, sys; logging.basicConfig(level=logging.INFO)\n"
        "from sft_runner.tracking.mlflow import MlflowTracker; from sft_runner.tracking.tracker import RunInfo\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "tracker = MlflowTracker(folder, 'sft_runner')\n"
        "print(tracker.start(RunInfo('dates', folder, {}, {})), tracker.start_stage('train'))\n"
    )
    fresh = tmp_path / "fresh"
    command = [sys.executable, "-c", program, str(fresh)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    both = [
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    spoken = [process.communicate(timeout=120) for process in both]
    assert [errors for _, errors in spoken] == ["", ""]
    client = MlflowClient(f"sqlite:///{fresh}/mlflow.db")
    runs = [client.get_run(run_id).info for output, _ in spoken for run_id in output.split()]
    assert [run.status for run in runs] == ["RUNNING"] * 4
    assert len({run.experiment_id for run in runs}) == 1
    assert list(Path.cwd().iterdir()) == []


def test_moved_output_dir_keeps_its_artifacts(tracker: MlflowTracker, output_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    tracker.start(info(tmp_path))
    before = finished(tracker, "prepare", MANIFEST, tmp_path)
    moved = output_dir.rename(tmp_path / "elsewhere")
    tracker = MlflowTracker(moved, "sft_runner")
    assert artifacts(tracker, before.info.run_id) == ["manifest.json"]
    tracker.start(info(tmp_path))
    after = finished(tracker, "prepare", MANIFEST, tmp_path)
    assert (moved / "mlartifacts" / after.info.run_id).is_dir()
    assert not output_dir.exists()


def test_killed_while_the_database_was_made(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    (tmp_path / ".mlflow.db.new").write_bytes(b"half a database")
    (tmp_path / ".mlflow.db.new-journal").write_bytes(b"half a journal")
    sqlite.create(path, open_store)
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert sorted(file.name for file in tmp_path.iterdir() if not file.name.endswith(".lock")) == ["mlflow.db"]


def test_a_tracker_that_fails_is_said_once_and_switched_off(tmp_path: Path) -> None:
    class Broken(MemoryTracker):
        def start_stage(self, stage: str) -> str | None:
            super().start_stage(stage)
            raise ConnectionError("no answer from https://user:secret@host/api\nlong story")

    broken, healthy, warnings = Broken(), MemoryTracker(), list[str]()
    tracker = SafeTracker({"broken": lambda: broken, "memory": lambda: healthy}, warnings.append)
    assert tracker.start(info(tmp_path)) == "memory"
    assert tracker.start_stage("train") == "memory-train"
    tracker.report("train", {"loss": 1.0})
    tracker.end_stage("train", "completed", None, None)
    tracker.end("completed", {})
    assert [name for name, _ in broken.calls] == ["start", "start_stage", "end"]  # it may work again, and its run ends
    assert [name for name, _ in healthy.calls] == ["start", "start_stage", "report", "end_stage", "end"]
    assert warnings == [
        "tracking.broken failed and is off for the rest of this run: "
        "ConnectionError: no answer from https://***@host/api"
    ]


def test_a_tracker_that_cannot_be_built_is_switched_off(tmp_path: Path) -> None:
    def build() -> Tracker:
        raise ImportError("No module named 'mlflow'")

    warnings: list[str] = []
    tracker = SafeTracker({"mlflow": build}, warnings.append)
    assert tracker.start(info(tmp_path)) is None
    tracker.end("completed", {})
    assert len(warnings) == 1


def test_an_interrupt_passes_through(tmp_path: Path) -> None:
    class Interrupted(NullTracker):
        def start(self, run: RunInfo) -> str | None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SafeTracker({"memory": Interrupted}, print).start(info(tmp_path))


@pytest.mark.timeout(90)
@pytest.mark.parametrize("address", ["sqlite:///{folder}", "sqlite:///{folder}/text.db", "http://127.0.0.1:9"])
def test_an_unusable_address_does_not_hold_the_run(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.db").write_text("this is no database " * 100)
    config = Config(tracking=Tracking(Mlflow(enabled=True, uri=address.format(folder=tmp_path))))
    tracker = make(config, tmp_path)
    assert tracker.start(info(tmp_path)) is None
    assert tracker.start_stage("train") is None
    assert capsys.readouterr().err.count("tracking.mlflow failed") == 1


def test_address_comes_from_the_configuration_then_the_environment(
    output_dir: Path, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("configured", "environment"):
        shutil.copy(database, tmp_path / f"{name}.db")
    configured, environment = (f"sqlite:///{tmp_path}/{name}.db" for name in ("configured", "environment"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", environment)
    for uri, expected in ((configured, configured), (None, environment)):
        run_id = make(Config(tracking=Tracking(Mlflow(enabled=True, uri=uri))), output_dir).start(info(tmp_path))
        assert run_id is not None
        assert (
            MlflowClient(expected).get_run(run_id).info.artifact_uri.startswith((output_dir / "mlartifacts").as_uri())
        )


def test_nothing_is_imported_before_something_is_told() -> None:
    program = (
        "import sys; from pathlib import Path; from sft_runner.tracking import make\n"
        "from sft_runner.config.schema import Config, Mlflow, Tracking\n"
        "make(Config(tracking=Tracking(Mlflow(enabled=True))), Path('outputs')); print('mlflow' in sys.modules)"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_no_tracker_is_wanted(tmp_path: Path) -> None:
    assert isinstance(make(Config(), tmp_path), NullTracker)


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("tracking=none", []),
        ("tracking=tensorboard", ["tensorboard"]),
        ("tracking=[mlflow,tensorboard]", ["mlflow", "tensorboard"]),
        ("tracking=[wandb,tensorboard]", ["tensorboard", "wandb"]),
    ],
)
def test_trackers_compose(word: str, names: list[str]) -> None:
    assert enabled(load("recipe=quickstart", word).config.tracking) == names
