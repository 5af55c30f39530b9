"""TensorBoard's event files, read back with TensorBoard's own reader."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.metadata import (
    SESSION_END_INFO_TAG,
    SESSION_START_INFO_TAG,
    parse_session_end_info_plugin_data,
    parse_session_start_info_plugin_data,
)

from sft_runner.config.schema import Config, Tensorboard, Tracking
from sft_runner.tracking import make
from sft_runner.tracking.tensorboard import TensorboardTracker
from sft_runner.tracking.tracker import RunInfo

MANIFEST: dict[str, Any] = {
    "metrics": {"base": {"exact_match": 0.0}, "tuned": {"exact_match": 1.0, "loss": 0.01}, "note": "text"},
    "artifacts": ["loss.png", "report.html", "gone.png"],
    "seconds": 2.5,
    "fingerprint": "f" * 16,
    "created": "2026-01-02T03:04:05+00:00",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "out put=1" / "tensorboard"


@pytest.fixture
def run(tmp_path: Path) -> RunInfo:
    folder = tmp_path / "runs" / "dates" / "20260102-030405-abcd"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("lora:\n  r: 8\n")
    params = {"lora.r": 8, "train.max_steps": None, "data.sources": {"a": 1}, "tracking.mlflow.uri": "secret"}
    return RunInfo("dates", folder, params, {"sft.recipe": "dates"}, resumes="dates/earlier")


@pytest.fixture
def tracker(root: Path) -> Iterator[TensorboardTracker]:
    """One whose files are closed in the end."""
    made = TensorboardTracker(root)
    yield made
    made.end("completed", {})


def read(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    found.Reload()
    return found


def place(root: Path, run: RunInfo) -> Path:
    return root / "dates" / run.folder.name


def text(found: EventAccumulator, tag: str) -> str:
    return str(found.Tensors(tag)[-1].tensor_proto.string_val[0].decode())


def status(found: EventAccumulator) -> int:
    content = found.SummaryMetadata(SESSION_END_INFO_TAG).plugin_data.content
    return int(parse_session_end_info_plugin_data(content).status)


def test_a_run_has_its_configuration(tracker: TensorboardTracker, root: Path, run: RunInfo) -> None:
    assert tracker.start(run) is None  # it has no id of its own, so no manifest names one
    found = read(place(root, run))
    content = found.SummaryMetadata(SESSION_START_INFO_TAG).plugin_data.content
    session = parse_session_start_info_plugin_data(content)
    assert session.hparams["lora.r"].number_value == 8
    assert session.hparams["train.max_steps"].string_value == ""
    assert set(session.hparams) == {"lora.r", "train.max_steps", "data.sources"}
    assert text(found, "config.yaml") == "    lora:\n      r: 8"
    assert "- sft.recipe: `dates`\n- sft.resumes: `dates/earlier`" in text(found, "run")
    assert b"secret" not in b"".join(path.read_bytes() for path in root.rglob("*tfevents*"))


def test_a_stage_has_its_numbers_by_step_and_time(tracker: TensorboardTracker, root: Path, run: RunInfo) -> None:
    tracker.start(run)
    tracker.start_stage("train")
    for step in (1, 2, 3):
        tracker.report("train", {"time": 1000.5 + step, "step": step, "steps": 3, "loss": 1 / step, "message": "saved"})
    tracker.report("train", {"time": 1004.0, "eval_loss": 0.5})
    tracker.end_stage("train", "completed", {"metrics": {"loss": 0.25}, "seconds": 2.5}, None)
    found = read(place(root, run) / "train")
    points = [(point.step, point.value, point.wall_time) for point in found.Scalars("loss")]
    assert points == [(1, 1.0, 1001.5), (2, 0.5, 1002.5), (3, pytest.approx(1 / 3), 1003.5)]
    assert found.Scalars("eval_loss")[0].step == 3
    assert (found.Scalars("result/loss")[0].value, found.Scalars("result/loss")[0].step) == (0.25, 3)
    assert set(found.Tags()["scalars"]) == {"loss", "eval_loss", "result/loss", "result/seconds"}
    assert text(found, "state") == "completed"


def test_pictures_are_shown(tracker: TensorboardTracker, root: Path, run: RunInfo, tmp_path: Path) -> None:
    picture = BytesIO()
    Figure(figsize=(2, 1)).savefig(picture, format="png", dpi=50)
    (tmp_path / "loss.png").write_bytes(picture.getvalue())
    (tmp_path / "report.html").write_text("<html>")
    tracker.start(run)
    tracker.start_stage("train")
    tracker.end_stage("train", "completed", MANIFEST, tmp_path)
    found = read(place(root, run) / "train")
    (image,) = found.Images("loss.png")
    assert (image.width, image.height) == (100, 50)
    assert image.encoded_image_string == picture.getvalue()


def test_the_report_of_a_run_is_text(tracker: TensorboardTracker, root: Path, run: RunInfo, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("a page")
    (tmp_path / "report.md").write_text("# dates")
    tracker.start(run)
    tracker.attach([tmp_path / "report.html", tmp_path / "report.md"])
    tracker.end("completed", {})
    found = read(place(root, run))
    assert text(found, "report.md") == "# dates"
    assert "report.html" not in found.Tags()["tensors"]


def test_a_cached_stage_says_where_it_came_from(tracker: TensorboardTracker, root: Path, run: RunInfo) -> None:
    tracker.start(run)
    tracker.cached("evaluate", MANIFEST)
    found = read(place(root, run) / "evaluate")
    assert text(found, "state") == f"cached: stages/evaluate/{'f' * 16}, made 2026-01-02T03:04:05+00:00"
    assert found.Scalars("result/tuned.exact_match")[0].value == 1.0


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("completed", api_pb2.STATUS_SUCCESS),
        ("failed", api_pb2.STATUS_FAILURE),
        ("cancelled", api_pb2.STATUS_FAILURE),
    ],
)
def test_a_run_ends_with_its_state_and_headline(
    tracker: TensorboardTracker, root: Path, run: RunInfo, state: str, expected: int
) -> None:
    tracker.start(run)
    tracker.start_stage("train")  # still open
    tracker.end(state, {"tuned.exact_match": 0.75})
    found = read(place(root, run))
    assert found.Scalars("tuned.exact_match")[0].value == 0.75
    assert (status(found), text(found, "state")) == (expected, state)
    assert text(read(place(root, run) / "train"), "state") == state


def test_a_run_that_was_killed_keeps_its_numbers_and_is_marked(root: Path, run: RunInfo, tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from sft_runner.tracking.tensorboard import TensorboardTracker\n"
        "from sft_runner.tracking.tracker import RunInfo\n"
        "tracker = TensorboardTracker(Path(sys.argv[1]))\n"
        "tracker.start(RunInfo('dates', Path(sys.argv[2]), {}, {})); tracker.start_stage('train')\n"
        "for step in range(1, 40):\n"
        "    tracker.report('train', {'step': step, 'loss': 1.0}); time.sleep(0.05)\n"
        "    if step == 30: print('there', flush=True)\n"
    )
    command = [sys.executable, "-c", program, str(root), str(run.folder)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert len(read(place(root, run) / "train").Scalars("loss")) >= 10  # all but the last second
    TensorboardTracker(root).mark_killed(run.folder, None)
    found = read(place(root, run))
    assert (status(found), text(found, "state")) == (api_pb2.STATUS_FAILURE, "killed")


def test_marking_a_run_that_it_never_heard_of_makes_nothing(root: Path, tmp_path: Path) -> None:
    TensorboardTracker(root).mark_killed(tmp_path / "runs" / "dates" / "other", None)
    assert not root.exists()


def test_it_imports_neither_torch_nor_tensorflow_and_stays_in_its_folder(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from sft_runner.tracking import make\n"
        "from sft_runner.config.schema import Config, Tensorboard, Tracking\n"
        "from sft_runner.tracking.tracker import RunInfo\n"
        "tracker = make(Config(tracking=Tracking(tensorboard=Tensorboard(enabled=True))), Path('outputs'))\n"
        "assert 'tensorboard' not in sys.modules\n"
        "tracker.start(RunInfo('dates', Path('outputs/runs/dates/1'), {}, {})); tracker.start_stage('train')\n"
        "tracker.end('completed', {}); print([name for name in ('torch', 'tensorflow') if name in sys.modules])"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


def test_another_folder_may_be_chosen(tmp_path: Path, run: RunInfo) -> None:
    wanted = Tracking(tensorboard=Tensorboard(enabled=True, dir=str(tmp_path / "elsewhere")))
    tracker = make(Config(tracking=wanted), tmp_path)
    tracker.start(run)
    tracker.end("completed", {})
    assert place(tmp_path / "elsewhere", run).is_dir()
