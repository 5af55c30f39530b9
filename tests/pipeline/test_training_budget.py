"""`train.max_hours`: the time of all attempts together, and what was learned by then."""

import json
from pathlib import Path
from typing import Any

import pytest

from random_models import Reports
from trainings import digest, finish, killed, messages, sealed, train, written
from trainings import processes as forked

pytestmark = pytest.mark.usefixtures("one_thread")

HOUR = 3600.0


def spent(folder: Path, seconds: float) -> None:
    """What earlier attempts left on the clock."""
    folder.mkdir(exist_ok=True)
    (folder / "attempts.json").write_text(json.dumps({"seconds": seconds}))


def test_it_stops_at_the_step_and_keeps_what_was_learned(world: Path, tmp_path: Path) -> None:
    spent(tmp_path / "train", HOUR)  # another attempt used it up before its first checkpoint
    result = train(world, tmp_path / "train", train__max_hours=1.0, train__eval_steps=10)
    metrics = result.metrics
    assert (metrics["steps"], metrics["kept_step"], metrics["stopped_by"]) == (1, 1, "budget")
    (note,) = result.notes
    assert note.startswith("stopped at step 1 of 20: train.max_hours=1 is used up; a larger one trains from the start")
    assert metrics["looks_seconds"] > 0
    assert metrics["seconds"] > HOUR
    assert [entry["step"] for entry in written(tmp_path / "train")["evaluated"]] == [1]  # a last look
    assert not (tmp_path / "train" / "attempts.json").exists()


def test_with_time_enough_it_changes_nothing(world: Path, tmp_path: Path) -> None:
    train(world, tmp_path / "plain")
    result = train(world, tmp_path / "train", train__max_hours=1.0)
    assert digest(tmp_path / "train") == digest(tmp_path / "plain")
    assert (result.metrics["stopped_by"], result.notes) == ("steps", [])
    assert 0 < result.metrics["seconds"] < HOUR


@pytest.mark.slow
def test_the_clock_outlives_a_kill(world: Path, tmp_path: Path) -> None:
    context, folder = forked(), tmp_path / "train"
    killed(context, world, folder, "save:9", train__max_hours=1.0)
    before = json.loads((folder / "attempts.json").read_text())["seconds"] if (folder / "attempts.json").exists() else 0
    spent(folder, before + HOUR)
    finish(context, world, folder, 6, train__max_hours=1.0)
    found = written(folder)["metrics"]
    assert (found["steps"], found["stopped_by"]) == (6, "budget")  # there is no time to train on


@pytest.mark.slow
def test_killed_when_time_was_up(world: Path, tmp_path: Path) -> None:
    """The step at which it stopped has a checkpoint; the next attempt writes its weights and trains no further."""
    context, folder, changes = forked(), tmp_path / "train", {"train__max_hours": 1.0}
    spent(folder, HOUR)
    killed(context, world, folder, "written", **changes)
    assert sealed(folder) == [1]
    finish(context, world, folder, 1, **changes)
    spent(tmp_path / "whole", HOUR)
    reports = Reports()
    train(world, tmp_path / "whole", reports, **changes)
    assert digest(folder) == digest(tmp_path / "whole")
    assert "goes on from step 1" not in messages(reports)
    facts: dict[str, Any] = written(folder)["metrics"]
    assert (facts["steps"], facts["stopped_by"]) == (1, "budget")
    assert not {"tokens_per_second", "real_tokens", "mfu"} & facts.keys()  # this attempt made no step
    assert "training was interrupted and went on from step 1" in written(folder)["story"]
