"""Weights & Biases without a network: what an offline run holds, and what it does not."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from sft_runner.config.schema import Config, Mlflow, Tensorboard, Tracking, Wandb
from sft_runner.errors import MachineError
from sft_runner.tracking import make, requirements
from sft_runner.tracking.tracker import RunInfo
from sft_runner.tracking.wandb import WandbTracker
from wandb_file import WandbFile

MANIFEST: dict[str, Any] = {
    "metrics": {"tuned": {"exact_match": 1.0}, "note": "text"},
    "artifacts": ["loss.png", "report.html"],
    "seconds": 2.5,
    "fingerprint": "f" * 16,
    "created": "2026-01-02T03:04:05+00:00",
}
KEY = "0123456789abcdef" * 3


@pytest.fixture(autouse=True)
def _nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a key, in an empty folder."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    (tmp_path / "cwd").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "cwd")


@pytest.fixture
def output_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "out put=1"
    folder.mkdir()
    return folder


@pytest.fixture
def tracker(output_dir: Path) -> Iterator[WandbTracker]:
    made = WandbTracker(output_dir, "project", "team", offline=True)
    yield made
    made.end("completed", {})


def info(output_dir: Path, **changes: Any) -> RunInfo:
    params = {"lora.r": 8, "train.max_steps": None, "tracking.mlflow.uri": "https://user:secret@host"}
    tags = {"sft.recipe": "dates", "sft.folder": "/somewhere", "sft.sweep": "20260102", "sft.model_name": "m" * 70}
    folder = output_dir / "runs" / "dates" / "20260102-030405-abcd"
    return RunInfo(**{"name": "dates", "folder": folder, "params": params, "tags": tags, **changes})


def test_one_run_holds_the_configuration(tracker: WandbTracker, output_dir: Path) -> None:
    assert tracker.start(info(output_dir, resumes="dates/earlier")) is None
    tracker.end("completed", {"tuned.exact_match": 0.75})
    found = WandbFile(output_dir)
    assert (found.run.run_id, found.run.display_name) == ("20260102-030405-abcd", "dates")
    assert (found.run.project, found.run.entity, found.run.run_group) == ("project", "team", "20260102")
    assert list(found.run.tags) == ["recipe=dates", "sweep=20260102"]  # longer ones are in the configuration
    assert (found.config["lora.r"], found.config["train.max_steps"]) == (8, None)
    assert (found.config["sft.model_name"], found.config["sft.resumes"]) == ("m" * 70, "dates/earlier")
    assert not [key for key in found.config if key.startswith("tracking.")]
    assert found.summary() == {"tuned.exact_match": 0.75, "state": "completed"}
    assert found.exit_codes == [0]


def test_stages_are_prefixes_with_steps_of_their_own(tracker: WandbTracker, output_dir: Path) -> None:
    tracker.start(info(output_dir))
    tracker.start_stage("train")
    for step in (1, 2):
        tracker.report("train", {"time": 1.0, "step": step, "steps": 2, "loss": 1 / step, "seconds_left": 3.0})
    tracker.report("train", {"message": "saved"})
    tracker.end_stage("train", "completed", {"metrics": {"loss": 0.25}, "seconds": 2.5}, None)
    tracker.cached("evaluate", MANIFEST)
    tracker.end("completed", {})
    found = WandbFile(output_dir)
    assert found.history() == [{"train/loss": 1.0, "train/step": 1}, {"train/loss": 0.5, "train/step": 2}]
    assert found.metrics()["train/*"] == "train/step"
    summary = found.summary()
    assert (summary["train/loss"], summary["train/seconds"], summary["train/state"]) == (0.25, 2.5, "completed")
    assert (summary["evaluate/state"], summary["evaluate/fingerprint"]) == ("cached", "f" * 16)
    assert summary["evaluate/tuned.exact_match"] == 1.0


def test_pictures_are_sent_and_nothing_else(tracker: WandbTracker, output_dir: Path, tmp_path: Path) -> None:
    Figure(figsize=(2, 1)).savefig(tmp_path / "loss.png")
    (tmp_path / "report.html").write_text("a row of the user's")
    tracker.start(info(output_dir))
    tracker.start_stage("train")
    tracker.end_stage("train", "completed", MANIFEST, tmp_path)
    tracker.attach([tmp_path / "report.html"])
    tracker.end("completed", {})
    (logged,) = WandbFile(output_dir).history()
    assert (logged["train/loss_picture._type"], logged["train/loss_picture.format"]) == ("image-file", "png")
    kept = [path for path in (output_dir / "wandb").glob("offline-run-*/files/**/*") if path.is_file()]
    assert [path.suffix for path in kept] == [".png"]


@pytest.mark.parametrize(("state", "code"), [("completed", 0), ("failed", 1), ("cancelled", 130)])
def test_a_run_ends_with_its_state(tracker: WandbTracker, output_dir: Path, state: str, code: int) -> None:
    tracker.start(info(output_dir))
    tracker.end(state, {})
    found = WandbFile(output_dir)
    assert (found.exit_codes, found.summary()["state"]) == ([code], state)


def test_the_jobs_of_a_sweep_are_runs_of_their_own(output_dir: Path) -> None:
    for number in range(2):
        tracker = WandbTracker(output_dir, "project", None, offline=True)
        tracker.start(info(output_dir, folder=output_dir / "runs" / "dates" / str(number)))
        tracker.end("completed", {})
    names = [path.name for path in (output_dir / "wandb").glob("offline-run-*/*.wandb")]
    assert sorted(names) == ["run-0.wandb", "run-1.wandb"]


def test_nothing_secret_is_written_and_nothing_printed(output_dir: Path, tmp_path: Path) -> None:
    """Neither the key, nor the command line, nor what the program prints, nor its code."""
    program = (
        "import sys; from pathlib import Path; from sft_runner.tracking import make\n"
        "from sft_runner.config.schema import Config, Tracking, Wandb\n"
        "from sft_runner.tracking.tracker import RunInfo\n"
        "wanted = Config(tracking=Tracking(wandb=Wandb(enabled=True, mode='offline')))\n"
        "tracker = make(wanted, Path(sys.argv[1])); assert 'wandb' not in sys.modules\n"
        "tracker.start(RunInfo('dates', Path('runs/dates/1'), {}, {})); tracker.start_stage('train')\n"
        "print('printed-aloud'); tracker.report('train', {'step': 1, 'loss': 1.0}); tracker.end('completed', {})\n"
        "print('torch' in sys.modules)"
    )
    env = {"PYTHONPATH": os.pathsep.join(sys.path), "WANDB_API_KEY": KEY, "HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", program, str(output_dir), "word-of-the-command-line"]
    done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("printed-aloud\nFalse\n", "")
    written = [path.read_bytes() for path in tmp_path.rglob("*") if stat.S_ISREG(path.stat().st_mode)]
    assert any(b"train/loss" in content for content in written)
    for secret in (KEY, "word-of-the-command-line", "printed-aloud", "RunInfo("):
        assert not any(secret.encode() in content for content in written)
    assert WandbFile(output_dir).kinds() <= {
        *("run", "history", "summary", "metric", "stats", "exit", "telemetry", "config", "final", "footer", "header"),
        *("environment", "request", "files"),
    }
    assert list((tmp_path / "cwd").iterdir()) == []


@pytest.mark.timeout(90)
def test_a_server_that_is_not_there_does_not_hold_the_run(
    output_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("sft_runner.tracking.wandb.START_SECONDS", 3.0)
    tracker = make(Config(tracking=Tracking(wandb=Wandb(enabled=True))), output_dir)
    assert tracker.start(info(output_dir)) is None
    tracker.report("train", {"step": 1, "loss": 1.0})
    tracker.end("completed", {})
    assert capsys.readouterr().err.count("tracking.wandb failed") == 1


@pytest.mark.parametrize(
    ("environment", "mode"),
    [({"WANDB_API_KEY": KEY}, "online"), ({}, "offline"), ({"WANDB_MODE": "offline"}, "online")],
)
def test_a_key_is_found_in_the_environment(
    environment: dict[str, str], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    requirements.check(Tracking(wandb=Wandb(enabled=True, mode=mode)))


def test_a_missing_key_is_told_before_a_run_begins(tmp_path: Path) -> None:
    (tmp_path / "home" / ".netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n")
    (tmp_path / "home" / ".netrc").chmod(0o600)
    with pytest.raises(MachineError) as told:
        make(Config(tracking=Tracking(wandb=Wandb(enabled=True))), tmp_path)
    assert told.value.hint.startswith("set WANDB_API_KEY")


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_told_before_a_run_begins(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "find_spec", lambda package: None if package == name else object())
    everything = Tracking(Mlflow(enabled=True), Tensorboard(enabled=True), Wandb(enabled=True, mode="offline"))
    rest = "mlflow,wandb" if name == "tensorboard" else "mlflow,tensorboard"
    with pytest.raises(MachineError) as told:
        requirements.check(everything)
    assert told.value.show() == (
        f"tracking={name} needs the package {name}, which is not installed\n"
        f"  pip install 'sft-runner[{name}]', or go without it: tracking=[{rest}]"
    )
    requirements.check(Tracking(Mlflow(enabled=True)))
