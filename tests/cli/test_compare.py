"""`sft-runner compare` as a user types it."""

import json
from pathlib import Path

from command import sft
from run_folders import run_folder


def test_runs_are_compared(tmp_path: Path) -> None:
    for time, rank in (("20260301-120000-ab12", 8), ("20260302-120000-cd34", 16)):
        run_folder(tmp_path / "outputs", time=time, config={"lora.r": rank})
    ended = sft("compare", "dates/20260301", "dates", "--html", "page.html", cwd=tmp_path, COLUMNS="90")
    assert ended.code == 0, ended.said
    lines = ended.out.splitlines()
    assert lines[:2] == ["A  dates/20260301-120000-ab12", "B  dates/20260302-120000-cd34"]
    assert "settings lora.r 8 16 scores of the tuned model" in " ".join(ended.out.split())
    assert max(map(len, lines)) <= 90
    assert ended.out.endswith("page: page.html\n")
    assert "<script" not in (tmp_path / "page.html").read_text()


def test_for_programs(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "elsewhere")
    ended = sft("compare", str(folder), "--json", cwd=tmp_path)
    assert ended.code == 0, ended.said
    assert json.loads(ended.out)["runs"][0]["fit_to_serve"] is True


def test_a_run_that_does_not_exist(tmp_path: Path) -> None:
    run_folder(tmp_path / "outputs")
    ended = sft("compare", "datse", cwd=tmp_path)
    assert (ended.code, ended.err) == (2, "error: run 'datse' does not exist\n  did you mean 'dates'?\n")


def test_help_teaches(tmp_path: Path) -> None:
    ended = sft("compare", "--help", cwd=tmp_path)
    assert ended.code == 0
    for part in ("NAME/TIME", "--html FILE", "--json", "≈"):
        assert part in ended.out


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "outputs")
    (tmp_path / "file").write_text("")
    for place in (".", "file/page.html"):
        ended = sft("compare", str(folder), "--html", place, cwd=tmp_path)
        assert ended.code == 2, ended.said
        assert ended.err.startswith(f"error: --html {place}: ")
        assert "name a file in a folder that can be written" in ended.err
        assert not list(tmp_path.glob(".*.tmp"))
