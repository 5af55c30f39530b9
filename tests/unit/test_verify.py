"""`sft-runner verify` finds one changed byte anywhere in a run, and nothing in one that nobody touched."""

import hashlib
import json
import os
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from light_runs import damaged, files, of, run, stage
from sft_runner.commands import command
from sft_runner.config.schema import Model
from sft_runner.disk import read_json, write_json
from sft_runner.errors import UnknownName, UserError
from sft_runner.report.record import find
from sft_runner.review.verify import Verified, verify
from sft_runner.review.verify.finding import CHANGED, DAMAGE, UNCHECKED, Part
from sft_runner.review.verify.hashing import Hasher
from sft_runner.review.verify.outward import _cached
from sft_runner.seal import LOCK

ROWS = '{"instruction": "Schreibe ein Datum", "output": "2026-11-21"}\n' * 4
WORDS = ["data=auto", "data.path='tägliche daten.jsonl'", "data.held_out=1", "export=[adapter]"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a finished run; not to be written into."""
    project = tmp_path_factory.mktemp("made")
    (project / "tägliche daten.jsonl").write_text(ROWS, encoding="utf-8")
    run(project, *WORDS)
    return project


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, in which the test works."""
    copy = Path(shutil.copytree(made, tmp_path / "copy", symlinks=True))
    monkeypatch.chdir(copy)
    return copy


def assert_whole(found: Verified) -> None:
    assert [finding.lines() for part in found.parts for finding in part.findings] == []
    assert {part.state for part in found.parts} == {"whole"}


def test_an_untouched_run_is_whole(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("verify")(["quickstart"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("quickstart/")
    stages = ["prepare", "baseline", "train", "merge", "evaluate", "export", "serve"]
    assert [line.split()[0] for line in lines[1:-1]] == [*stages, "run", "data", "base"]
    assert re.fullmatch(r"whole: \d+ files, [\d.]+ MB, \d+\.\d s", lines[-1])
    seen = sum(part.files for part in verify(of(project)).parts[:-2])
    assert seen == len(list(files(project))) - 1, "each once, but for the run's seal, which is only read"


@pytest.mark.parametrize("everywhere", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_one_flipped_byte_is_found_in_every_file(project: Path, everywhere: bool) -> None:
    """At the first, the middle and the last byte; the short test takes one of them for each file."""
    places = list(files(project))
    assert len(places) > 50
    for number, path in enumerate(places):
        content = path.read_bytes()
        bytes_ = (0, len(content) // 2, len(content) - 1)
        for place in sorted(set(bytes_)) if everywhere else bytes_[number % 3 : number % 3 + 1]:
            changed = bytearray(content)
            changed[place] ^= 1
            path.write_bytes(changed)
            assert damaged(verify(of(project))) == {str(path.relative_to(project))}, (path, place)
        path.write_bytes(content)
    assert_whole(verify(of(project)))


@pytest.mark.parametrize("everywhere", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_file_that_is_shorter_longer_or_gone_is_found(project: Path, everywhere: bool) -> None:
    places = list(files(project))
    for number, path in enumerate(places if everywhere else places[::3]):
        content = path.read_bytes()
        changes = (content[:-1], content + b"\n", b"", None)
        for change in changes if everywhere else changes[number % 4 : number % 4 + 1]:
            path.unlink() if change is None else path.write_bytes(change)
            assert damaged(verify(of(project))) == {str(path.relative_to(project))}, (path, change and len(change))
        path.write_bytes(content)
    assert_whole(verify(of(project)))


def test_a_file_that_was_added_is_found(project: Path) -> None:
    for folder in (of(project), *(stage(project, name) for name in ("prepare", "train", "serve"))):
        for name in (
            "übrig.bin",
            "deep/er/.hidden",
            "manifest.json.bak",
            ".train.arrow.123.tmp",
            "deep/.run.json.1.tmp",
        ):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
            assert damaged(verify(of(project))) == {str(path.relative_to(project))}
            path.unlink()
            shutil.rmtree(folder / "deep", ignore_errors=True)
        for make in (Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/"), lambda path: path.symlink_to("nowhere")):
            make(folder / "added")
            assert damaged(verify(of(project))) == {str((folder / "added").relative_to(project))}
            (folder / "added").rmdir() if make == Path.mkdir else (folder / "added").unlink()
    (of(project) / ".run.json.12345.tmp").write_text("half of what a killed comm")
    assert_whole(verify(of(project)))


def test_a_link_to_an_equal_file_is_found(project: Path) -> None:
    """What lies behind it may change at any time."""
    weights, adapter = stage(project, "merge") / "model/model.safetensors", stage(project, "train") / "adapter"
    weights.rename(project / "equal")
    weights.symlink_to(project / "equal")
    (finding,) = verify(of(project)).of(DAMAGE)
    assert (finding.place, finding.what) == (str(weights.relative_to(project)), "cannot be read: it is a link")
    weights.unlink()
    (project / "equal").rename(weights)
    adapter.rename(project / "equal")
    adapter.symlink_to(project / "equal")
    assert str(adapter.relative_to(project)) in damaged(verify(of(project)))


@pytest.mark.parametrize("name", ["run.json", "config.yaml", "seal.json"])
@pytest.mark.parametrize("kind", ["a folder", "a link"])
def test_a_record_of_the_run_that_is_no_file_is_told_once(name: str, kind: str, project: Path) -> None:
    """No remedy may say to remove what another says to copy back."""
    path = of(project) / name
    path.rename(project / "kept")
    if kind == "a link":
        path.symlink_to(project / "kept")
    else:
        path.mkdir()
    found = [finding for finding in verify(of(project)).of(DAMAGE) if finding.place == str(path.relative_to(project))]
    assert len(found) == 1
    assert "copy it back" in found[0].remedy


def test_the_file_by_which_a_run_is_held_stays_empty(project: Path) -> None:
    (of(project) / LOCK).write_text("x")
    assert damaged(verify(of(project))) == {str((of(project) / LOCK).relative_to(project))}


@pytest.mark.parametrize("everywhere", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_no_damaged_record_stops_it(project: Path, everywhere: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes that still parse, of wrong types, too deep, or a pipe: damage, and never a traceback."""
    draw = random.Random(1)
    names = [of(project) / name for name in ("run.json", "plan.json", "config.yaml", "seal.json")]
    names += [stage(project, "prepare") / name for name in ("manifest.json", "stage.json", "seal.json")]
    (project / "tägliche daten.jsonl").unlink()  # it is another part, and has its own tests
    for path in names:
        content = path.read_bytes()
        texts = [
            b"[" * 100_000,
            b"[1]",
            b"5",
            b'{"files": {"a\\u0000b": 1}}',
            b"\xff",
            content.replace(b": {", b": [", 1),
        ]
        for place in draw.sample(range(len(content)), 60 if everywhere else 2):
            changed = bytearray(content)
            changed[place] ^= 1 << draw.randrange(8)
            texts.append(bytes(changed))
        for text in (text for text in texts if text != content):
            path.write_bytes(text)
            found = verify(of(project))
            assert str(path.relative_to(project)) in damaged(found), (path, text[:80])
            assert not any("could not be checked" in finding.what for finding in found.of(DAMAGE)), (path, text[:80])
        path.unlink()
        os.mkfifo(path)
        assert command("verify")([str(of(project)), "--json"]) == 1
        places = [finding["place"] for finding in json.loads(capsys.readouterr().out)["damaged"]]
        assert str(path.relative_to(project)) in places
        path.unlink()
        path.write_bytes(content)


def test_what_nobody_thought_of_ends_no_other_part(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: Any) -> None:
        raise KeyError("unheard of")

    said = "sft_runner.review.verify.stage._said"
    monkeypatch.setattr(said, lambda asked, *_: wrong() if asked.name == "train" else None)
    monkeypatch.setattr("sft_runner.review.verify.outward.sets.as_data", wrong)
    found = verify(of(project))
    assert [(one.place, one.what) for one in found.of(DAMAGE)] == [
        ("train", "could not be checked: KeyError: 'unheard of'")
    ]
    assert [(one.place, one.what) for one in found.of(UNCHECKED)] == [
        ("sets", "could not be looked at: KeyError: 'unheard of'")
    ]
    assert "run" in [part.name for part in found.parts if part.state == "whole"]


def test_swapped_files_are_found(project: Path) -> None:
    one, other = stage(project, "prepare") / "train.arrow", stage(project, "prepare") / "held_out.arrow"
    one.rename(one.with_name("aside"))
    other.rename(one)
    one.with_name("aside").rename(other)
    assert damaged(verify(of(project))) == {str(path.relative_to(project)) for path in (one, other)}


def test_a_manifest_that_was_edited_with_its_file_is_found(project: Path) -> None:
    weights, manifest = stage(project, "merge") / "model/model.safetensors", stage(project, "merge") / "manifest.json"
    weights.write_bytes(b"other weights")
    values = read_json(manifest)
    values["files"]["model/model.safetensors"] = {"size": 13, "sha256": hashlib.sha256(b"other weights").hexdigest()}
    write_json(manifest, values)
    found = verify(of(project))
    assert damaged(found) == {str(manifest.relative_to(project))}
    (finding,) = found.of(DAMAGE)
    assert "sha256" in finding.expected
    assert "sha256" in finding.found
    (of(project) / "seal.json").unlink()  # the stage's own seal knows it too
    assert str(manifest.relative_to(project)) in damaged(verify(of(project)))


def test_a_fingerprint_that_does_not_fit_is_found(project: Path) -> None:
    """Where nothing is sealed, a manifest is still held against its own fingerprint, and against the chain."""
    for path in [*project.rglob("seal.json"), of(project) / "run.json"]:
        if path.name == "seal.json":
            path.unlink()
        else:
            write_json(path, {**read_json(path), "sealed": False})
    assert not damaged(verify(of(project)))
    manifest = stage(project, "train") / "manifest.json"
    values = read_json(manifest)
    write_json(manifest, {**values, "config": {**values["config"], "lora.r": 9}})
    assert "its fingerprint is not that of what it says" in verify(of(project)).of(DAMAGE)[0].what
    write_json(manifest, {**values, "inputs": {"prepare": "0" * 16}})
    whats = [finding.what for finding in verify(of(project)).of(DAMAGE)]
    assert any("another prepare than the run's" in what for what in whats)


def test_a_link_that_leads_elsewhere_is_found(project: Path) -> None:
    link = of(project) / "model"
    right = os.readlink(link)
    for change in ("elsewhere", right + "/", f"../../../stages/merge/{'0' * 16}/model"):
        link.unlink()
        link.symlink_to(change)
        (finding,) = verify(of(project)).of(DAMAGE)
        assert (finding.place, finding.expected, finding.found) == (str(link.relative_to(project)), right, change)
    link.unlink()
    assert damaged(verify(of(project))) == {str(link.relative_to(project))}
    shutil.copytree(stage(project, "merge") / "model", link)
    assert str(link.relative_to(project)) in damaged(verify(of(project)))


def test_a_stage_that_is_gone_is_found(project: Path) -> None:
    shutil.rmtree(stage(project, "merge"))
    found = verify(of(project))
    assert [finding.what for finding in found.of(DAMAGE)] == ["the folder is not there"]


def test_it_says_what_to_do(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (stage(project, "train") / "adapter" / "adapter_model.safetensors").write_bytes(b"x")
    (of(project) / "report.md").write_text("other")
    assert command("verify")(["quickstart", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    train, report = told["damaged"]
    assert train["remedy"].endswith("'force=[train]'   makes it anew")
    assert "tägliche daten.jsonl" in train["remedy"]
    assert train["what"] == "299 bytes too few"
    assert report["remedy"].startswith("sft-runner report quickstart/")
    assert [part["state"] for part in told["parts"] if part["name"] in ("train", "merge")] == ["damaged", "whole"]
    assert command("report")(["quickstart"]) == 0
    assert damaged(verify(of(project))) == {train["place"]}


def test_nothing_is_found_after_the_outputs_moved(project: Path) -> None:
    (project / "outputs").rename(project / "my results")
    folder = of(project, "my results")
    assert_whole(verify(folder))
    (folder / "report.md").write_text("other")
    next((project / "my results" / "stages" / "train").glob("*/training.json")).unlink()
    train, report = verify(folder).of(DAMAGE)
    assert "'output_dir=my results' 'force=[train]'" in train.remedy
    assert "--output-dir 'my results'" in report.remedy


def test_the_data_of_today_is_told_apart_from_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "tägliche daten.jsonl"
    data.write_text(ROWS, encoding="utf-8")
    folder = run(tmp_path, *WORDS[:3], "stage=prepare")
    assert_whole(verify(folder))
    data.write_text(ROWS + ROWS, encoding="utf-8")
    assert command("verify")(["quickstart", "--strict"]) == 1
    assert command("verify")(["quickstart"]) == 0
    capsys.readouterr()
    assert command("verify")(["quickstart"]) == 0
    out = capsys.readouterr().out
    assert "changed since: " in out
    assert "the run is whole; the same command would make it anew" in out
    assert "daten.jsonl changed since: " in out.splitlines()[-1]
    data.unlink()
    found = verify(folder)
    assert not damaged(found)
    (finding,) = found.of(UNCHECKED)
    assert "there is no file or folder" in finding.what


def test_the_data_is_found_from_another_folder(project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert_whole(verify(of(project)))


@pytest.mark.parametrize("words", [["data.path=d.jsonl"], ["+data.sources.a.path=d.jsonl"]], ids=["path", "sources"])
def test_the_data_that_the_run_read_is_looked_at_and_no_namesake(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        (folder / "d.jsonl").write_text(ROWS, encoding="utf-8")
    run_ = run(here, "data=auto", *words, "data.held_out=1", "stage=prepare", f"output_dir={tmp_path / 'out'}")
    monkeypatch.chdir(there)
    (there / "d.jsonl").write_text("other")
    assert_whole(verify(run_))
    (there / "d.jsonl").write_text(ROWS, encoding="utf-8")
    (here / "d.jsonl").write_text(ROWS + ROWS, encoding="utf-8")
    (finding,) = verify(run_).of(CHANGED)
    assert finding.expected != finding.found


def test_a_file_of_the_hubs_cache_is_held_against_its_name(tmp_path: Path) -> None:
    blobs, folder = tmp_path / "blobs", tmp_path / "snapshots" / ("c" * 40)
    for place in (blobs, folder):
        place.mkdir(parents=True)
    large, small = b"weights" * 1000, b"{}\n"
    names = {
        "model.safetensors": (large, hashlib.sha256(large).hexdigest()),
        "config.json": (small, hashlib.sha1(b"blob 3\0{}\n").hexdigest()),
    }
    for name, (content, digest) in names.items():
        (blobs / digest).write_bytes(content)
        (folder / name).symlink_to(f"../../blobs/{digest}")
    model, part = Model(name="me/mine", revision="c" * 40), Part("base model")
    _cached(folder, model, part, Hasher())
    assert part.findings == []
    for name, (content, digest) in names.items():
        (blobs / digest).write_bytes(content[:-1] + b"!")
        part = Part("base model")
        _cached(folder, model, part, Hasher())
        (finding,) = part.of(DAMAGE)
        assert (finding.place, finding.expected) == (str(folder / name), digest)
        assert finding.remedy == f"hf download me/mine --revision {'c' * 40} --force-download"
        (blobs / digest).write_bytes(content)


def test_a_run_whose_own_files_are_damaged_is_found_by_name(project: Path) -> None:
    label = f"quickstart/{of(project).name}"
    (of(project) / "run.json").write_text("{")
    with pytest.raises((UnknownName, UserError)):
        find(label, project / "outputs")
    for word in (label, "quickstart", str(of(project))):
        assert command("verify")([word]) == 1
    with pytest.raises(UserError):
        command("verify")(["another"])
    with pytest.raises(UserError, match="there is no run in nowhere"):
        command("verify")(["quickstart", "--output-dir", "nowhere"])


def test_remembered_hashes_and_times_are_not_trusted(project: Path) -> None:
    path = stage(project, "prepare") / "train.arrow"
    status, content = path.stat(), bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert damaged(verify(of(project))) == {str(path.relative_to(project))}
