"""`sft-runner record` as a user types it."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from command import sft
from recorded import BOTH, GATE, MISSED, RECIPE, WORDS, project, run
from sft_runner.commands.record import main
from sft_runner.config import sources
from sft_runner.disk import read_json
from sft_runner.errors import MachineError, UnknownName, UserError
from sft_runner.review.record.table import read


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a recipe, of which `mine` is a run."""
    monkeypatch.chdir(tmp_path)
    sources.forget()
    project(tmp_path)
    run(tmp_path)
    return tmp_path


def record(*words: str) -> int:
    return main([*words, "--output-dir", "out"])


def test_a_run_is_recorded_and_can_be_seen(folder: Path) -> None:
    ended = sft("record", "mine", "--output-dir", "out", cwd=folder)
    assert ended.code == 0, ended.said
    first, offer, line = ended.out.splitlines()
    assert first == "recipes/mine.results.md: recorded mine/20260301-120000-ab12"
    assert offer == "recipes/mine.yaml: its header may say (--header writes it)"
    assert line.startswith(
        "# result:   exact match 0 % -> 41.0 % on 4 held-out rows, 9.7 s of training (embedded:tiny, CPU"
    )
    text = (folder / "recipes" / "mine.results.md").read_text()
    assert text.startswith("# Results of mine\n\nMeasured by runs of `recipes/mine.yaml`.")
    assert "exact match 0 % → 41.0 % (34.0 % to 48.0 %); gain +41.0 points (+33.0 to +48.0 points)" in text
    assert (folder / "recipes" / "mine.yaml").read_text() == RECIPE
    assert sorted(os.listdir(folder / "recipes")) == ["mine.results.md", "mine.yaml"]


def test_a_run_that_the_recipe_does_not_make(folder: Path) -> None:
    recipe = folder / "recipes" / "mine.yaml"
    recipe.write_text(RECIPE.replace("5e-3", "1e-3"))
    ended = sft("record", "mine", "--output-dir", "out", cwd=folder)
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err == (
        "error: run mine/20260301-120000-ab12: recipes/mine.yaml is not what it ran: "
        "train.learning_rate 0.005 -> 0.001\n"
        "  run it again as it is, or record it all the same, marked: --force\n"
    )
    assert not (folder / "recipes" / "mine.results.md").exists()
    assert record("mine", "--force") == 0
    assert "**not what the recipe makes**" in (folder / "recipes" / "mine.results.md").read_text()


def test_again_is_not_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record("mine", "--header")
    assert "# result:   exact match" in (folder / "recipes" / "mine.yaml").read_text()
    before = [(path, path.stat().st_mtime_ns) for path in (folder / "recipes").iterdir()]
    capsys.readouterr()
    record("mine", "--header")
    assert capsys.readouterr().out.splitlines() == [
        "recipes/mine.results.md: says so already",
        "recipes/mine.yaml: its header says so already",
    ]
    record("mine")
    assert capsys.readouterr().out == "recipes/mine.results.md: says so already\n"  # nothing more to offer
    assert [(path, path.stat().st_mtime_ns) for path in (folder / "recipes").iterdir()] == before


def test_the_header_is_no_part_of_what_is_run(folder: Path) -> None:
    record("mine", "--header")
    sources.forget()
    assert record("mine") == 0


def test_several_runs_of_several_recipes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project(folder, "日本 qa")
    run(folder, "日本 qa")
    run(folder, name="r4", words=(*WORDS, "lora.r=4"), started="2026-03-02T12:00:00+00:00")
    sources.forget()
    assert record("日本 qa", "r4", "mine", "mine") == 0
    assert [row.words[-1] for row in read(folder / "recipes/mine.results.md")] == ["lora.r=4", WORDS[-1]]
    assert len(read(folder / "recipes/日本 qa.results.md")) == 1
    assert "recorded r4/20260301-120000-ab12, mine/20260301-120000-ab12" in capsys.readouterr().out


def test_all_or_nothing(folder: Path) -> None:
    run(folder, name="killed", state="killed", gates=[])
    run(folder, name="other", choices={"recipe": "other"})
    with pytest.raises(UserError) as caught:
        record("mine", "killed", "other")
    assert "was killed" in caught.value.message
    assert "is not here" in caught.value.message
    assert not (folder / "recipes" / "mine.results.md").exists()


def test_a_table_that_cannot_be_read_stops_all(folder: Path) -> None:
    project(folder, "broken")
    run(folder, "broken")
    (folder / "recipes" / "broken.results.md").write_text("<<<<<<< HEAD\n")
    sources.forget()
    with pytest.raises(UserError, match=r"recipes/broken\.results\.md, line 1: a merge conflict"):
        record("mine", "broken")
    assert not (folder / "recipes" / "mine.results.md").exists()


def test_printed_and_not_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert record("mine", "--print") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| date | words | score | loss | gates |")
    assert lines[2].startswith("| 2026-03-01 12:00 | `hardware=cpu model=tiny")
    assert len(lines) == 3
    assert os.listdir(folder / "recipes") == ["mine.yaml"]


def test_a_missed_gate_is_not_offered(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = project(folder, gates=BOTH).read_text()
    run(folder, name="bad", gates=[MISSED, GATE], state="failed", fit_to_serve=False)
    assert record("bad", "--header") == 0
    told = capsys.readouterr()
    assert told.out == "recipes/mine.results.md: recorded bad/20260301-120000-ab12\n"
    assert told.err == "warning: recipes/mine.yaml: a model that missed a gate is no result for its header\n"
    assert "**failed** 1 of 2" in (folder / "recipes" / "mine.results.md").read_text()
    assert (folder / "recipes" / "mine.yaml").read_text() == text


def test_a_marked_row_is_not_offered(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = folder / "recipes" / "mine.yaml"
    recipe.write_text(RECIPE.replace("5e-3", "1e-3"))
    assert record("mine", "--force", "--header") == 0
    told = capsys.readouterr()
    assert told.out == "recipes/mine.results.md: recorded mine/20260301-120000-ab12\n"
    assert told.err == "warning: recipes/mine.yaml: a row that is marked is no result for its header\n"
    record("mine", "--force")
    assert "its header may say" not in capsys.readouterr().out
    assert recipe.read_text() == RECIPE.replace("5e-3", "1e-3")


def test_what_is_replaced_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder, name="later", started="2026-03-02T12:00:00+00:00")
    record("mine")
    capsys.readouterr()
    assert record("later") == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.endswith("recorded later/20260301-120000-ab12; replaced the row of 2026-03-01 12:00")
    before = {path: path.read_bytes() for path in (folder / "recipes").iterdir()}
    assert record("mine", "--header") == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        "warning: recipes/mine.results.md: the row of 2026-03-02 12:00 with the same words is newer and stays; "
        "--force replaces it",
        "warning: recipes/mine.yaml: an older run is no result for its header",
    ]
    assert {path: path.read_bytes() for path in (folder / "recipes").iterdir()} == before
    assert record("mine", "--force") == 0
    assert "replaced the row of 2026-03-02 12:00" in capsys.readouterr().out


def test_a_run_that_is_not_there(folder: Path) -> None:
    with pytest.raises(UnknownName) as caught:
        record("mien")
    assert caught.value.hint == "did you mean 'mine'?"


def test_a_sweeps_job_is_recorded_by_its_own_words(folder: Path) -> None:
    for rank in (4, 16):
        words = (*WORDS, f"lora.r={rank}")
        run(folder, name=f"r{rank}", words=words, sweep="20260301-120000-ffff")
    assert record("r4", "r16") == 0
    assert {row.words[-1] for row in read(folder / "recipes/mine.results.md")} == {"lora.r=4", "lora.r=16"}


def test_a_folder_that_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(MachineError) as caught:
        record("mine")
    assert "--print" in caught.value.hint
    assert os.listdir(folder / "recipes") == ["mine.yaml"]


@pytest.mark.parametrize(
    "damage", [{"stages": None}, {"overrides": 3}, {"recipe": "x"}, {"choices": []}, {"gates": "x"}]
)
def test_a_damaged_run_is_no_traceback(damage: dict[str, Any], folder: Path) -> None:
    path = folder / "out" / "runs" / "mine" / "20260301-120000-ab12"
    (path / "run.json").write_text(json.dumps(read_json(path / "run.json") | damage))
    with suppress(UserError):  # anything else would be a traceback
        assert record("mine", "--force") == 0
    (path / "seal.json").unlink()
    with suppress(UserError):
        assert record("mine") == 0


def test_damaged_settings_are_no_traceback(folder: Path) -> None:
    (folder / "out" / "runs" / "mine" / "20260301-120000-ab12" / "config.yaml").write_text("hardware: 3\n")
    assert record("mine", "--force") == 0


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    assert "sft-runner record quickstart --print" in told
