"""Run folders: which runs were killed, who hears of it, and which one a plan goes on from."""

from pathlib import Path
from platform import node
from types import SimpleNamespace
from typing import Any

from filelock import FileLock

from sft_runner.disk import read_json, write_json
from sft_runner.runs import interrupted, orphans


def run(output_dir: Path, time: str, **values: Any) -> Path:
    """A run folder as a killed process leaves it."""
    folder = output_dir / "runs" / "dates" / time
    folder.mkdir(parents=True)
    write_json(folder / "run.json", {"state": "running", "host": node(), "trackers": [], **values})
    return folder


def found(output_dir: Path, told: list[str]) -> list[str]:
    return [folder.name for folder, _ in orphans(output_dir, told)]


def state(folder: Path) -> Any:
    return read_json(folder / "run.json")["state"]


def test_a_run_that_nobody_holds_was_killed(tmp_path: Path) -> None:
    dead = run(tmp_path, "1")
    alive, elsewhere, done = (
        run(tmp_path, "2"),
        run(tmp_path, "3", host="another"),
        run(tmp_path, "4", state="completed"),
    )
    with FileLock(alive / ".lock"):
        assert found(tmp_path, []) == ["1"]
        assert found(tmp_path, []) == []
    assert [state(folder) for folder in (dead, alive, elsewhere, done)] == ["killed", "running", "running", "completed"]


def test_each_tracker_hears_of_it_once_when_it_is_next_used(tmp_path: Path) -> None:
    dead = run(tmp_path, "1", trackers=["mlflow", "tensorboard"], mlflow_run_id="a")
    assert found(tmp_path, []) == ["1"]  # it is known here at once
    assert state(dead) == "killed"
    assert found(tmp_path, ["wandb"]) == []
    assert found(tmp_path, ["tensorboard", "wandb"]) == ["1"]
    assert found(tmp_path, ["tensorboard"]) == []
    assert found(tmp_path, ["mlflow", "tensorboard"]) == ["1"]
    assert found(tmp_path, ["mlflow", "tensorboard"]) == []


def plan(output_dir: Path, **actions: str) -> Any:
    steps = [SimpleNamespace(stage=stage, action=action, fingerprint=stage) for stage, action in actions.items()]
    return SimpleNamespace(output_dir=output_dir, steps=steps)


def test_a_plan_goes_on_from_the_newest_run_that_left_its_stage(tmp_path: Path) -> None:
    stages = {"prepare": "prepare", "train": "train"}
    run(tmp_path, "1", state="killed", stages=stages)
    run(tmp_path, "2", state="cancelled", stages=stages)
    run(tmp_path, "3", state="failed", stages={"train": "another"})
    run(tmp_path, "4", state="running", stages=stages)  # this run itself
    assert interrupted(plan(tmp_path, prepare="cached", train="resume")) == "dates/2"
    assert interrupted(plan(tmp_path, prepare="cached", train="run")) is None
    assert interrupted(plan(tmp_path / "new", train="resume")) is None
