"""Killed at any moment, the same command goes on and ends with the same bits."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from command import SMALL, actions, manifest, sft, start
from sft_runner.events import EventReader

SLOW = pytest.mark.slow
LONGER = [
    *SMALL,
    "train.max_steps=40",
    "train.save_steps=5",
    "train.logging_steps=1",
    "lora.lora_dropout=0.1",
    "stage=train",
]
"""Forty steps over several epochs, with dropout, checkpoints every five."""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The files of the adapter that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    ended = sft(*LONGER, cwd=folder)
    assert ended.code == 0, ended.said
    return adapter(folder / "outputs")


def adapter(outputs: Path) -> dict[str, Any]:
    from sft_runner.disk import read_json

    (path,) = (outputs / "stages" / "train").glob("*/manifest.json")
    return {name: facts["sha256"] for name, facts in read_json(path)["files"].items() if name.endswith(".safetensors")}


def at_step(folder: Path, step: int, process: "subprocess.Popen[str]", timeout: float = 120) -> None:
    """Wait until the training reports a step."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        for path in (folder / "outputs" / "stages" / "train").glob("*.partial/events.jsonl"):
            if any(event.get("step", 0) >= step for event in EventReader(path).new()):
                return
        assert process.poll() is None, (folder / "screen.log").read_text()
        time.sleep(0.02)
    raise AssertionError("the step never came")


def family(pid: int) -> list[psutil.Process]:
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def group(processes: list[psutil.Process]) -> None:
    os.killpg(processes[0].pid, signal.SIGKILL)


def runner(processes: list[psutil.Process]) -> None:
    processes[0].kill()


def stage(processes: list[psutil.Process]) -> None:
    processes[-1].kill()


def interrupt(processes: list[psutil.Process]) -> None:
    processes[0].send_signal(signal.SIGINT)


@pytest.mark.parametrize("kill", [group, *(pytest.param(how, marks=SLOW) for how in (runner, stage, interrupt))])
def test_a_killed_training_ends_with_the_same_bits(
    kill: Callable[[list[psutil.Process]], None], uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    process = start(*LONGER, cwd=tmp_path)
    at_step(tmp_path, 13, process)
    processes = family(process.pid)
    assert len(processes) >= 3  # runner, warm worker, stage
    kill(processes)
    process.wait(60)
    _, alive = psutil.wait_procs(processes[1:], timeout=20)
    assert not alive, "a worker outlived its runner"
    again = sft(*LONGER, cwd=tmp_path)
    assert again.code == 0, again.said
    assert actions(again.out) == {"prepare": "cached", "train": "resume"}
    assert adapter(tmp_path / "outputs") == uninterrupted
    assert manifest(tmp_path, "train")["metrics"]["steps"] == 40


@SLOW
def test_how_an_interrupted_run_is_written_down(tmp_path: Path) -> None:
    from sft_runner.disk import read_json

    process = start(*LONGER, cwd=tmp_path)
    at_step(tmp_path, 3, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    (run,) = (tmp_path / "outputs" / "runs" / "quickstart").iterdir()
    assert read_json(run / "run.json")["state"] == "cancelled"
    assert "the same command goes on" in (tmp_path / "screen.log").read_text()


@SLOW
def test_a_killed_run_is_marked_by_the_next(tmp_path: Path) -> None:
    from sft_runner.disk import read_json
    from sft_runner.tracking.mlflow import open_store

    process = start(*LONGER, cwd=tmp_path)
    at_step(tmp_path, 3, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    (killed,) = (tmp_path / "outputs" / "runs" / "quickstart").iterdir()
    assert read_json(killed / "run.json")["state"] == "running"
    assert sft(*LONGER, "train.max_steps=2", cwd=tmp_path).code == 0
    state = read_json(killed / "run.json")
    assert state["state"] == "killed"
    client = open_store(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    assert client.get_run(state["mlflow_run_id"]).info.status == "KILLED"


def test_two_at_once_do_the_work_once(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    words = [*LONGER, f"output_dir={tmp_path / 'outputs'}"]
    processes = [start(*words, cwd=folder) for folder in (first, second)]
    assert [process.wait(300) for process in processes] == [0, 0], (second / "screen.log").read_text()
    for name in ("prepare", "train"):
        (path,) = (tmp_path / "outputs" / "stages" / name).glob("*/events.jsonl")
        began = [event for event in EventReader(path).new() if event.get("state") == "running"]
        assert len(began) == 1
    screens = [(folder / "screen.log").read_text() for folder in (first, second)]
    # they may take turns: one waits for the other's rows, the other for its training
    assert any("another run works on it" in screen for screen in screens)
    assert any("reused" in screen for screen in screens)
    assert not list((tmp_path / "outputs").rglob("*.partial"))
