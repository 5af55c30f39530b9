"""How a run ends: what is written in which order, and what is said of errors that nobody expected."""

import errno
from collections.abc import Sequence
from pathlib import Path

import pytest
from filelock import FileLock

from sft_runner import load, planning, screen
from sft_runner.disk import read_json
from sft_runner.ending import ended, fit
from sft_runner.errors import GateFailed, MachineError, SftError, StageFailed
from sft_runner.evaluation.verdict import Verdict
from sft_runner.outcome import Outcome
from sft_runner.runs import RunFolder
from sft_runner.tracking.tracker import MemoryTracker

SCORES = {"evaluate": {"metrics": {"base": {"loss": 2.0}, "tuned": {"loss": 1.0}}}}
PASSED, MISSED = Verdict("loss", "max", 1, 1, True), Verdict("loss", "max", 0.5, 1, False, 0.5)


class Watching(MemoryTracker):
    """Sees what `run.json` says, and who holds the run, while it is told of its end."""

    def __init__(self, folder: Path, stop: bool = False) -> None:
        super().__init__()
        self.folder, self.stop = folder, stop
        self.seen: list[str] = []

    def attach(self, files: Sequence[Path]) -> None:
        self.seen.append(read_json(self.folder / "run.json")["state"])
        with pytest.raises(TimeoutError), FileLock(self.folder / ".lock", timeout=0):
            pass
        super().attach(files)
        if self.stop:
            raise KeyboardInterrupt


@pytest.fixture
def plan(tmp_path: Path) -> planning.Plan:
    return planning.plan(load("recipe=quickstart", "hardware=cpu", f"output_dir={tmp_path}", "tracking=none"))


def begun(plan: planning.Plan) -> tuple[RunFolder, Outcome]:
    folder = RunFolder(plan)
    return folder, Outcome("completed", folder.path)


def free(folder: RunFolder) -> bool:
    """Whether nobody holds the run any more."""
    with FileLock(folder.path / ".lock", timeout=0):
        return True


def test_it_is_written_down_before_anybody_is_told(plan: planning.Plan) -> None:
    folder, outcome = begun(plan)
    tracker = Watching(folder.path)
    with ended(plan, outcome, folder, tracker):
        pass
    assert tracker.seen == ["completed"]
    assert [name for name, _ in tracker.calls] == ["attach", "end"]
    assert [file.name for file in tracker.calls[0][1][0]] == ["report.html", "report.md"]
    assert free(folder)


def test_who_is_stopped_while_it_is_told_has_ended(plan: planning.Plan) -> None:
    folder, outcome = begun(plan)
    tracker = Watching(folder.path, stop=True)
    with pytest.raises(KeyboardInterrupt), ended(plan, outcome, folder, tracker):
        pass
    assert read_json(folder.path / "run.json")["state"] == "completed"
    assert tracker.calls[-1] == ("end", ("completed", {}))
    assert free(folder)


def test_who_stops_it_is_told_of_the_report(plan: planning.Plan, capsys: pytest.CaptureFixture[str]) -> None:
    folder, outcome = begun(plan)
    with pytest.raises(KeyboardInterrupt), ended(plan, outcome, folder, MemoryTracker()):
        raise KeyboardInterrupt
    assert f"report: {folder.path / 'report.html'}\n" in capsys.readouterr().out
    assert read_json(folder.path / "run.json")["state"] == "cancelled"


def test_a_failed_run_says_where_its_report_is(plan: planning.Plan, capsys: pytest.CaptureFixture[str]) -> None:
    folder, outcome = begun(plan)
    with ended(plan, outcome, folder, MemoryTracker()):
        raise StageFailed("train: the loss is not a number", "try less")
    capsys.readouterr()
    screen.close(plan, outcome)
    assert capsys.readouterr().out == f"report: {folder.path / 'report.html'}\n"
    assert read_json(folder.path / "run.json")["error"] == "train: the loss is not a number\n  try less"


def test_an_error_that_nobody_expected_is_explained(plan: planning.Plan) -> None:
    folder, outcome = begun(plan)
    with ended(plan, outcome, folder, MemoryTracker()):
        raise KeyError("rank")
    assert outcome.state == "failed"
    assert type(outcome.error) is SftError
    assert outcome.error.message == "KeyError: 'rank'"
    assert isinstance(outcome.error.__cause__, KeyError), "for who calls it from Python"
    assert "test_ending.py" in (folder.path / "error.log").read_text()
    assert str(folder.path / "error.log") in outcome.error.hint
    assert read_json(folder.path / "run.json")["error"].startswith("KeyError: 'rank'\n")


def test_a_full_disk_is_the_machines(plan: planning.Plan) -> None:
    folder, outcome = begun(plan)
    with ended(plan, outcome, folder, MemoryTracker()):
        raise OSError(errno.ENOSPC, "No space left on device", "/data/full/file")
    assert isinstance(outcome.error, MachineError)
    assert outcome.error.message == "/data/full: no space left on the disk"
    assert not (folder.path / "error.log").exists()


def test_trackers_hear_of_an_end_that_cannot_be_written(plan: planning.Plan) -> None:
    folder, outcome = begun(plan)
    tracker = MemoryTracker()
    with ended(plan, outcome, folder, tracker):
        (folder.path / "run.json").unlink()
        (folder.path / "run.json").mkdir()
    assert outcome.state == "failed"
    assert outcome.error is not None
    assert tracker.calls[-1] == ("end", ("failed", {}))
    assert free(folder)


@pytest.mark.parametrize(
    ("state", "error", "verdicts", "expected"),
    [
        ("completed", None, [PASSED], True),
        ("completed", None, [], True),
        ("failed", GateFailed("loss"), [PASSED, MISSED], False),
        ("failed", StageFailed("serve: other tokens than in training"), [PASSED], False),
        ("failed", MachineError("serve: the port is taken"), [PASSED], None),
        ("cancelled", None, [PASSED], None),
        ("cancelled", None, [MISSED], False),
    ],
)
def test_fit_to_serve(state: str, error: SftError | None, verdicts: list[Verdict], expected: bool | None) -> None:
    outcome = Outcome(state, None, dict(SCORES), error=error, verdicts=verdicts)
    assert fit(outcome) is expected
    assert fit(outcome, over=False) is (False if MISSED in verdicts else None), "nobody knows before the end"
    assert fit(Outcome(state, None, error=error)) is None, "nothing was evaluated"
