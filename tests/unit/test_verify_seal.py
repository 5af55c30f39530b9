"""Seals: who writes one, who renews it, and what a kill between any two lines leaves."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from platform import node
from typing import Any

import pytest
from filelock import FileLock

import light_runs
from light_runs import damaged, of, run, stage
from sft_runner import disk, seal
from sft_runner.commands import command
from sft_runner.disk import read_json, write_json
from sft_runner.errors import MachineError
from sft_runner.review.verify import Verified, verify
from sft_runner.review.verify.finding import DAMAGE, NOTE, UNCHECKED
from sft_runner.runs import orphans

SHORT = ["stage=train", "train.max_steps=3"]


class Killed(BaseException):
    """What a kill looks like from inside."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tmp_path_factory.mktemp("made")
    run(project, *SHORT)
    return project


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = Path(shutil.copytree(made, tmp_path / "copy", symlinks=True))
    monkeypatch.chdir(copy)
    return copy


def kinds(found: Verified) -> list[str]:
    return sorted({finding.kind for part in found.parts for finding in part.findings})


def killed_at_each_write(folder: Path, work: Callable[[], Any], again: Callable[[], None]) -> int:
    """Do some work and die at its first write, its second, and so on; the run is never damaged. Returns their count."""
    for number in range(100):
        left = [number]
        real = os.replace

        def replace(*places: Any, left: list[int] = left, real: Any = real) -> None:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            real(*places)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(disk.os, "replace", replace)
            try:
                work()
                return number
            except Killed:
                pass
        assert DAMAGE not in kinds(verify(folder)), number
        again()
    raise AssertionError("it never ended")


def test_a_report_that_is_written_anew_renews_it(project: Path) -> None:
    before = seal.read(of(project))
    page = (of(project) / "report.html").read_bytes()
    (of(project) / "report.html").write_text("other")
    assert kinds(verify(of(project))) == [DAMAGE]
    assert command("report")([of(project).parent.name]) == 0
    assert kinds(verify(of(project))) == []
    assert (of(project) / "report.html").read_bytes() == page
    assert before
    assert set(before["files"]) == set((seal.read(of(project)) or {})["files"])


def test_no_kill_while_it_is_renewed_looks_like_damage(project: Path) -> None:
    numbers = iter(range(1000))
    other = lambda: {name: f"page {next(numbers)}".encode() for name in ("report.html", "report.md")}  # noqa: E731
    writes = killed_at_each_write(of(project), lambda: seal.rewrite(of(project), other()), lambda: None)
    assert writes == 4, "the seal, two files, the seal"
    assert kinds(verify(of(project))) == []


def test_no_kill_at_the_end_of_a_run_looks_like_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = run(tmp_path, *SHORT, end=False)
    shutil.copytree(folder, tmp_path / "kept", symlinks=True)
    places = {name: stage(tmp_path, name) for name in ("prepare", "train")}
    stages = {name: (place, read_json(place / "manifest.json")) for name, place in places.items()}

    def work() -> None:
        state = {**read_json(folder / "run.json"), "state": "completed"}
        write_json(folder / "run.json", state)
        seal.rewrite(folder, {"report.html": b"page"})
        seal.of_run(folder, stages)
        seal.rewrite(folder, {"run.json": disk.json_bytes({**state, "sealed": True})}, held=True)

    def again() -> None:
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "kept", folder, symlinks=True)

    assert killed_at_each_write(folder, work, again) == 6
    assert kinds(verify(folder)) == []


def test_a_killed_run_is_not_called_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(tmp_path, *SHORT, end=False)
    found = verify(folder)
    assert (found.state, kinds(found)) == ("killed", [UNCHECKED])
    assert [part.state for part in found.parts if part.name in ("prepare", "train")] == ["whole", "whole"]
    assert command("verify")([str(folder)]) == 0
    out = capsys.readouterr().out
    assert "the run has no seal, so nothing says what these were: config.yaml, plan.json, recipe.yaml, run.json" in out
    assert "nothing is damaged, 1 thing could not be checked" in out
    weights = stage(tmp_path, "train") / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert command("verify")([str(folder)]) == 1, "what its stages wrote is known all the same"


def test_a_run_that_is_under_way_is_not_damaged(tmp_path: Path) -> None:
    folder = run(tmp_path, *SHORT, end=False)
    shutil.rmtree(stage(tmp_path, "train"))
    with FileLock(folder / ".lock"):
        found = verify(folder)
    assert (found.state, kinds(found)) == ("running", [UNCHECKED])


def test_a_seal_that_was_removed_is_missed(project: Path) -> None:
    (of(project) / "seal.json").unlink()
    (finding,) = verify(of(project)).of(DAMAGE)
    assert finding.what == "is not there, and run.json says that it was"


def test_marking_an_orphan_renews_its_seal_and_hides_no_damage(project: Path) -> None:
    path = of(project) / "run.json"
    state = {**read_json(path), "untold": ["wandb"], "host": node()}
    seal.rewrite(of(project), {"run.json": disk.json_bytes(state)})
    assert len(list(orphans(project / "outputs", ["wandb"]))) == 1
    assert read_json(path)["untold"] == []
    assert kinds(verify(of(project))) == []
    seal.rewrite(of(project), {"run.json": disk.json_bytes(state)})
    path.write_bytes(path.read_bytes().replace(b'"started": "2', b'"started": "3'))
    assert len(list(orphans(project / "outputs", ["wandb"]))) == 1
    assert [finding.place for finding in verify(of(project)).of(DAMAGE)] == [str(path.relative_to(project))]


def test_a_second_run_from_the_cache_changes_nothing(project: Path) -> None:
    first = of(project)
    second = run(project, *SHORT)
    for folder in (first, second):
        assert kinds(verify(folder)) == []
    log = stage(project, "train") / "stage.log"
    log.write_text(f"{log.read_text()}!")
    for folder in (first, second):
        assert [finding.place for finding in verify(folder).of(DAMAGE)] == [str(log.relative_to(project))]
    shutil.rmtree(second)
    (first / "seal.json").unlink()
    write_json(first / "run.json", {**read_json(first / "run.json"), "sealed": False})
    found = verify(first)
    assert kinds(found) == [UNCHECKED], "no run's seal says how long the log was"
    assert "its last 1 bytes were written after its seal" in [finding.what for finding in found.of(UNCHECKED)]


def test_a_later_run_vouches_for_no_damage(project: Path) -> None:
    """It seals what the stages' own seals say, also where it read something else."""
    places = [stage(project, "train") / name for name in ("manifest.json", "events.jsonl", "stage.log")]
    for path, old, new in zip(
        places, (b'"host"', b"running", b"train"), (b'"Host"', b"Running", b"Train"), strict=True
    ):
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new, 1))
    (stage(project, "train") / "extra.bin").write_bytes(b"x")
    first, places = of(project), [*places, stage(project, "train") / "extra.bin"]
    second = run(project, *SHORT)
    for folder in (first, second):
        assert damaged(verify(folder)) == {str(path.relative_to(project)) for path in places}
    (stage(project, "train") / "seal.json").unlink()
    places.append(stage(project, "train") / "seal.json")
    third = run(project, *SHORT)
    assert damaged(verify(first)) == {str(path.relative_to(project)) for path in places}
    assert kinds(verify(third)) == sorted([DAMAGE, UNCHECKED]), "that the stage's own seal is gone is said"


def test_a_run_knows_the_stage_that_it_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another command makes a stage anew before the run has ended, and with it its seal."""
    monkeypatch.chdir(tmp_path)
    link, others = light_runs.runner._link, []

    def meanwhile(plan: Any, step: Any, folder: Any) -> None:
        link(plan, step, folder)
        if step.stage == "train" and not others:
            others.append(folder.path)
            others.append(run(tmp_path, *SHORT, "force=[train]", "name=other"))

    monkeypatch.setattr(light_runs.runner, "_link", meanwhile)
    found = verify(run(tmp_path, *SHORT))
    assert kinds(found) == [NOTE]
    assert f"but other/{others[1].name}" in found.of(NOTE)[0].what
    assert kinds(verify(others[1])) == []


def test_a_seal_of_a_newer_version_is_no_damage(project: Path) -> None:
    values = seal.read(of(project))
    assert values
    seal._write(of(project), {**values, "version": 2, "files": [{"name": "run.json"}]})
    found = verify(of(project))
    assert kinds(found) == [UNCHECKED]
    assert "written by a newer sft-runner" in found.of(UNCHECKED)[0].what
    with pytest.raises(MachineError, match="newer"):
        seal.rewrite(of(project), {"report.md": b"other"})


def test_a_manifest_of_another_version_is_no_damage_where_it_is_sealed(project: Path) -> None:
    place = stage(project, "train")
    values = read_json(place / "manifest.json")
    del values["model"]
    own = seal.read(place)
    assert own
    write_json(place / "manifest.json", values)
    assert damaged(verify(of(project))) == {str((place / "manifest.json").relative_to(project))}
    content = (place / "manifest.json").read_bytes()
    seal._write(place, {**own, "files": {**own["files"], "manifest.json": seal.facts_of(content)}})
    seal.of_run(of(project), {"train": (place, values)})
    found = verify(of(project))
    assert kinds(found) == [UNCHECKED]
    assert "it does not say model" in found.of(UNCHECKED)[0].what


def test_a_run_without_a_seal_borrows_what_another_knows_of_a_stage(project: Path) -> None:
    unsealed = run(project, *SHORT, end=False)
    log = stage(project, "train") / "stage.log"
    log.write_text(f"{log.read_text()}!")
    assert [finding.place for finding in verify(unsealed).of(DAMAGE)] == [str(log.relative_to(project))]


def test_a_stage_that_was_made_anew_is_no_damage_to_the_earlier_run(project: Path) -> None:
    first = of(project)
    second = run(project, *SHORT, "force=[train]")
    found = verify(first)
    assert kinds(found) == [NOTE]
    assert f"but quickstart/{second.name}; what came behind it here" in found.of(NOTE)[0].what
    assert kinds(verify(second)) == []
    third = run(project, *SHORT, "force=[train]", end=False)
    found = verify(first)
    assert kinds(found) == [UNCHECKED]
    assert "no run that has ended knows it" in found.of(UNCHECKED)[0].what
    assert DAMAGE not in kinds(verify(third))
    weights = stage(project, "train") / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    for folder in (first, second, third):
        assert [finding.place for finding in verify(folder).of(DAMAGE)] == [str(weights.relative_to(project))]


def test_who_is_killed_while_it_replaces_a_stage_damages_nothing(project: Path) -> None:
    """The older output has just gone aside, and the other one is not in its place yet."""
    folder = stage(project, "train")
    folder.rename(folder.with_name(f"{folder.name}.replaced"))
    found = verify(of(project))
    assert kinds(found) == [UNCHECKED]
    assert "the same command goes on" in found.of(UNCHECKED)[0].what


def test_a_failed_run_is_checked_as_far_as_it_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = run(tmp_path, *SHORT, fails="train")
    found = verify(folder)
    assert (found.state, kinds(found)) == ("failed", [NOTE])
    states = [(part.name, part.state) for part in found.parts[:3]]
    assert states == [("prepare", "whole"), ("train", "not there"), ("run", "whole")]
    path = folder / "run.json"
    path.write_bytes(path.read_bytes().replace(b"failed", b"Failed"))
    assert kinds(verify(folder)) == sorted([DAMAGE, NOTE])


def test_a_pipe_in_place_of_a_file_is_not_waited_for(project: Path) -> None:
    path = stage(project, "prepare") / "train.arrow"
    path.unlink()
    os.mkfifo(path)
    (finding,) = verify(of(project)).of(DAMAGE)
    assert finding.what == "cannot be read: it is no file"


def test_of_a_run_from_before_there_were_seals_the_outputs_are_checked(project: Path) -> None:
    for path in [*project.rglob("seal.json")]:
        path.unlink()
    write_json(of(project) / "run.json", {**read_json(of(project) / "run.json"), "sealed": False})
    found = verify(of(project))
    assert kinds(found) == [UNCHECKED]
    prepare, train, own = found.of(UNCHECKED)
    assert prepare.what == train.what
    assert prepare.what.endswith("these were: events.jsonl, manifest.json, result.json, stage.json, stage.log")
    assert "as stages of earlier versions have none" in prepare.what
    assert own.place == str(of(project).relative_to(project))
    (stage(project, "prepare") / "train.arrow").write_bytes(b"other")
    assert kinds(verify(of(project))) == sorted([DAMAGE, UNCHECKED])


def test_who_holds_a_run_is_waited_for(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "SECONDS", 0.05)
    with FileLock(of(project) / ".lock"), pytest.raises(MachineError, match="another command works on this run"):
        seal.rewrite(of(project), {"report.md": b"other"})
    assert kinds(verify(of(project))) == []


def test_a_seal_that_cannot_be_written_fails_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sync = os.fsync

    def full(handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        if path.name.startswith(".seal.json") and "runs" in path.parts:
            raise OSError(28, "No space left on device")
        sync(handle)

    monkeypatch.setattr(disk.os, "fsync", full)
    folder = run(tmp_path, *SHORT)
    assert capsys.readouterr().err.count("warning: the run has no seal") == 1
    assert not [path for path in folder.iterdir() if path.name.endswith(".tmp")]
    assert read_json(folder / "run.json")["state"] == "completed"
    assert kinds(verify(folder)) == [UNCHECKED]
