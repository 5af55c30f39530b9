"""Which rows of a table are no longer what the recipe makes: all that are not, and none that are."""

from pathlib import Path

import pytest

from recorded import WORDS, project, run
from sft_runner.config import sources
from sft_runner.errors import UserError
from sft_runner.fingerprint import Hashes
from sft_runner.report.record import read
from sft_runner.review.record.recording import recorded
from sft_runner.review.record.table import results_of, stale
from sft_runner.review.record.writing import write


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a recipe whose runs with rank 8 and rank 4 are recorded."""
    monkeypatch.chdir(tmp_path)
    sources.forget()
    path = project(tmp_path)
    hashes = Hashes(tmp_path / "hashes.json")
    records = [read(run(tmp_path, name=f"r{rank}", words=(*WORDS, f"lora.r={rank}"))) for rank in (8, 4)]
    write(results_of(path), "mine", [recorded(record, None, False, hashes).row for record in records])
    return tmp_path


def found(folder: Path) -> list[str]:
    sources.forget()
    return [row.words[-1] for row, _ in stale("mine", Hashes(folder / "hashes.json"))]


def test_nothing_is_stale(folder: Path) -> None:
    assert found(folder) == []
    recipe = folder / "recipes" / "mine.yaml"
    recipe.write_text("# a note\n" + recipe.read_text().replace("5e-3", "'0.005'"))
    assert found(folder) == []


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("recipes/mine.yaml", "5e-3", "6e-3"),
        ("my data.jsonl", "1?", "2?"),
        ("recipes/mine.yaml", "train:", "data: {seed: 1}\ntrain:"),
    ],
)
def test_what_counts_makes_all_rows_stale(file: str, old: str, new: str, folder: Path) -> None:
    place = folder / file
    place.write_text(place.read_text().replace(old, new))
    assert found(folder) == ["lora.r=4", "lora.r=8"]
    row, why = next(stale("mine", Hashes(folder / "hashes.json")))
    assert row.fingerprint in why
    assert "sft-runner diff" in why
    assert row.line > 3


def test_only_the_row_that_the_change_is_of(folder: Path) -> None:
    """What the words of a row say beats what the recipe says."""
    recipe = folder / "recipes" / "mine.yaml"
    recipe.write_text(recipe.read_text() + "lora:\n  r: 16\n")
    assert found(folder) == []
    recipe.write_text(recipe.read_text().replace("r: 16", "lora_alpha: 8"))  # that of rank 4 all the same
    assert found(folder) == ["lora.r=8"]


def test_a_group_file_makes_rows_stale(folder: Path) -> None:
    (folder / "conf" / "hardware").mkdir(parents=True)
    shipped = sources.choice("hardware", "cpu")
    assert shipped is not None
    own = folder / "conf" / "hardware" / "cpu.yaml"
    own.write_text(shipped.text)
    assert found(folder) == []
    own.write_text(shipped.text.replace("optim: adamw_torch", "optim: sgd"))
    assert found(folder) == ["lora.r=4", "lora.r=8"]


def test_what_is_not_here_is_not_stale(folder: Path) -> None:
    (folder / "my data.jsonl").unlink()
    assert found(folder) == []


def test_a_model_that_is_not_here_is_not_stale(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(folder / "hub"))
    table = results_of(folder / "recipes" / "mine.yaml")
    table.write_text(table.read_text().replace("model=tiny", "model.name=nobody/nothing"))
    assert found(folder) == []


def test_words_that_cannot_be_composed_are_not_stale(folder: Path) -> None:
    table = results_of(folder / "recipes" / "mine.yaml")
    table.write_text(table.read_text().replace("lora.r=4", "lora.rank=4"))
    assert found(folder) == []


def test_no_table_and_a_broken_one(folder: Path) -> None:
    table = results_of(folder / "recipes" / "mine.yaml")
    text = table.read_text()
    table.write_text("<<<<<<< HEAD\n" + text)
    with pytest.raises(UserError, match="line 1: a merge conflict"):
        found(folder)
    table.unlink()
    assert found(folder) == []
