"""Run folders: which runs were killed, who hears of it, and which one a plan goes on from."""

from pathlib import Path
from platform import node
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

from sft_runner import load, planning, runner, screen
from sft_runner.disk import read_json, write_json
from sft_runner.errors import MachineError
from sft_runner.masking import masked
from sft_runner.runs import RunFolder, earlier, interrupted, orphans, state_of

MISSED = {"gate": "loss", "limit": "max", "wanted": 1.0, "found": 2.0, "passed": False, "missed_by": 1.0}


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


def test_who_was_killed_while_its_end_was_told_has_ended(tmp_path: Path) -> None:
    done = run(tmp_path, "1", state="completed", trackers=["mlflow"], untold=["mlflow"])
    run(tmp_path, "2", state="completed", trackers=["mlflow"])  # of an older version, told long ago
    assert found(tmp_path, []) == []
    assert found(tmp_path, ["mlflow"]) == ["1"]
    assert found(tmp_path, ["mlflow"]) == []
    assert state(done) == "completed"


def test_the_true_state_of_a_run(tmp_path: Path) -> None:
    dead, alive, elsewhere = (run(tmp_path, "1"), run(tmp_path, "2"), run(tmp_path, "3", host="another"))
    with FileLock(dead / ".lock"):
        pass
    with FileLock(alive / ".lock"):
        assert [state_of(folder, "running") for folder in (dead, alive, elsewhere)] == ["killed", "running", "running"]
    assert state_of(alive, "completed") == "completed"
    assert state_of(run(tmp_path, "4"), "running") == "killed", "its lock was never taken, or is lost"
    assert state(dead) == "running", "only told"


@pytest.mark.parametrize(
    ("values", "finished"),
    [
        ({"state": "completed"}, True),
        ({"state": "failed", "fit_to_serve": False, "gates": [MISSED]}, True),
        ({"state": "failed", "fit_to_serve": False, "gates": [{**MISSED, "passed": True}]}, False),
        ({"state": "failed"}, False),
    ],
)
def test_a_run_that_missed_a_gate_has_ended(values: dict[str, Any], finished: bool, tmp_path: Path) -> None:
    folder = run(tmp_path, "1", stages={"train": "train"}, **values)
    assert earlier(plan(tmp_path, train="cached")) == (folder if finished else None)


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


def made(tmp_path: Path, *words: str) -> planning.Plan:
    return planning.plan(load("recipe=quickstart", "hardware=cpu", f"output_dir={tmp_path}", *words))


def test_who_is_told_hears_nothing_of_who_is_told(tmp_path: Path) -> None:
    asked = made(tmp_path, "lora.r=4", "tracking.mlflow.uri=http://host/")
    told = runner._info(asked, RunFolder(asked), None).tags["sft.overrides"]
    assert "lora.r=4" in told
    assert "tracking" not in told


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("uri=http://me:secret@host/a", "uri=http://***@host/a"),
        ("uri=http://host/?token=secret", "uri=http://host/?***"),
        ("'http://host/a?token=secret' failed", "'http://host/a?***' failed"),
        ("lora.r=4", "lora.r=4"),
    ],
)
def test_addresses_are_shown_without_their_secrets(text: str, expected: str) -> None:
    assert masked(text) == expected


def test_what_a_tracker_lacks_is_told_before_there_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(MachineError, match="no key"):
        runner.record(made(tmp_path, "tracking=[wandb]"), "sweep")
    assert not (tmp_path / "runs").exists()


def test_a_model_with_code_of_its_own_is_not_offered_to_be_merged(tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    trusted = (f"model.revision={commit}", f"model.trust_remote_code=someone/own@{commit}")
    for words, offered in (((), True), (trusted, False)):
        asked = made(tmp_path, "stage=evaluate", "model.name=someone/own", *words)
        hints = screen.hints(asked, runner.Outcome("completed", None))
        assert any("merges and serves" in line for line in hints) is offered


@pytest.mark.parametrize(
    ("words", "remaining"),
    [
        (["stage=prepare"], "trains, merges, evaluates and serves"),
        (["stage=train"], "merges, evaluates and serves"),
        (["stage=merge"], "evaluates and serves"),
        (["stage=merge", "export=[adapter]"], "evaluates, exports and serves"),
        (["stage=evaluate"], "merges and serves"),
    ],
)
def test_what_is_next_is_what_is_left(words: list[str], remaining: str, tmp_path: Path) -> None:
    hints = screen.hints(made(tmp_path, *words), runner.Outcome("completed", None))
    assert any(line.endswith(f"   # {remaining}") for line in hints)
