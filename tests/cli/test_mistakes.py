"""Whatever the user writes wrong is told in the user's words, fast, with a suggestion, and leaves nothing behind."""

import time
from pathlib import Path

import pytest

from command import sft

CASES = {
    "a misspelt key": (["recipe=quickstart", "lora.rr=4"], ["'lora.rr'", "lora.r"]),
    "a misspelt key, forced in": (["recipe=quickstart", "+lora.rr=4"], ["'lora.rr'", "lora.r"]),
    "a key in the wrong part": (["recipe=quickstart", "train.max_length=4"], ["'train.max_length'", "data.max_length"]),
    "a misspelt part": (["recipe=quickstart", "lroa.r=4"], ["'lroa.r'", "lora"]),
    "a misspelt recipe": (["recipe=quickstrat"], ["recipe 'quickstrat'", "quickstart"]),
    "a misspelt preset": (["recipe=code", "hardware=rtx306"], ["hardware 'rtx306'", "rtx3060"]),
    "a word for a number": (["recipe=quickstart", "train.learning_rate=fast"], ["train.learning_rate=fast", "number"]),
    "a value that is not a choice": (["recipe=quickstart", "quantization.bits=5"], ["quantization.bits", "'5'", "4"]),
    "a value that is too small": (["recipe=quickstart", "lora.r=0"], ["lora.r=0", "1"]),
    "not a number": (["recipe=quickstart", "train.learning_rate=nan"], ["train.learning_rate", "finite"]),
    "a path with =": (["recipe=qa", "data.path=/a=b.jsonl"], ["data.path=/a=b.jsonl", "'data.path=\"/a=b.jsonl\"'"]),
    "a file as a choice": (["recipe=qa", "data=my.jsonl"], ["'my.jsonl'", "data.path=my.jsonl"]),
    "a hub id as a choice": (["recipe=qa", "model=org/name"], ["'org/name'", "model.name=org/name"]),
    "a misspelt stage": (["recipe=quickstart", "stage=trian"], ["stage 'trian'", "train"]),
    "a stage that cannot be forced": (["recipe=quickstart", "force=[evaluat]"], ["'evaluat'", "evaluate"]),
    "an unknown metric": (["recipe=quickstart", "evaluate.metrics=[exact_mach]"], ["'exact_mach'", "exact_match"]),
    "a trainer field that does not exist": (
        ["recipe=quickstart", "train.extra={nefttune_noise_alpha: 5}"],
        ["neftune_noise_alpha"],
    ),
    "a trainer field with an owner": (["recipe=quickstart", "train.extra={output_dir: x}"], ["output_dir"]),
    "a server on the network": (["recipe=quickstart", "serve.host=0.0.0.0"], ["serve.host", "127.0.0.1"]),
    "no data": (["recipe=qa"], ["data.path"]),
    "data that is not there": (["recipe=qa", "data.path=none.jsonl"], ["data.path", "none.jsonl"]),
    "a model folder that is not there": (["recipe=quickstart", "model.name=./nowhere"], ["model.name", "./nowhere"]),
    "a word that is no command": (["recipe"], ["command 'recipe'", "recipes"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_explained(case: str, tmp_path: Path) -> None:
    words, told = CASES[case]
    ended = sft(*words, cwd=tmp_path)
    assert ended.code == 2, ended.said
    assert "Traceback" not in ended.said
    for text in told:
        assert text in ended.err
    assert not list(tmp_path.iterdir())


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    ended = sft("recipe=quickstart", "lora.rr=4", "train.learning_rate=fast", "hardware=rtx306", cwd=tmp_path)
    assert ended.code == 2
    assert all(text in ended.err for text in ("lora.rr", "train.learning_rate", "rtx306"))


def test_a_mistake_is_told_within_a_second(tmp_path: Path) -> None:
    """Beside a bare interpreter that imports Hydra, so that a slow machine does not decide."""
    import subprocess
    import sys

    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import hydra"], check=True)
    bare = time.perf_counter() - began
    assert min(sft("recipe=quickstart", "lora.rr=4", cwd=tmp_path).seconds for _ in range(3)) < max(1.0, 5 * bare)


BROKEN = "defaults:\n  - override /model: tiny\nlora: {r: 4\ntrain:\n  max_steps: 3\n"


def test_a_broken_recipe_stops_only_who_asks_for_it(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "broken.yaml").write_text(BROKEN)
    asked = sft("recipe=broken", cwd=tmp_path)
    assert asked.code == 2
    assert "recipes/broken.yaml, line" in asked.err
    assert "Traceback" not in asked.err
    other = sft("recipe=quickstart", "dry_run=true", cwd=tmp_path)
    assert other.code == 0, other.err
    assert "warning: recipes/broken.yaml" in other.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lora:\n  rr: 4\n", ["recipes/mine.yaml, line 2", "lora.rr", "lora.r"]),
        ("train:\n  batch_size: 4\n  learning_rate: fast\n", ["recipes/mine.yaml, line 3", "train.learning_rate"]),
        ("# a comment\nhardware:\n  memory_gb: 80\n", ["recipes/mine.yaml, line 3", "hardware.memory_gb"]),
        ("defaults:\n  - override /method: qlroa\n", ["recipes/mine.yaml, line 1", "method 'qlroa'", "qlora"]),
        ("- a list\n", ["recipes/mine.yaml", "mapping"]),
    ],
)
def test_a_mistake_in_a_recipe_has_its_line(text: str, told: list[str], tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text(text)
    ended = sft("recipe=mine", "model=tiny", "data=dates", cwd=tmp_path)
    assert ended.code == 2, ended.said
    for part in told:
        assert part in ended.err


DATA = {
    "empty": ("", ["empty"]),
    "not JSON on line 7": ('{"question": "a", "answer": "b"}\n' * 6 + "{question\n", ["line 7", "JSON"]),
    "no answer column": ('{"question": "a", "anwser": "b"}\n' * 3, ["anwser", "answer"]),
}


@pytest.mark.parametrize("case", DATA)
def test_a_data_file_that_cannot_be_used_is_explained(case: str, tmp_path: Path) -> None:
    text, told = DATA[case]
    file = tmp_path / "my.jsonl"
    file.write_text(text)
    ended = sft("recipe=qa", "model=tiny", f"data.path={file}", cwd=tmp_path)
    assert ended.code == 2, ended.said
    assert "my.jsonl" in ended.err
    assert "data" in ended.err
    for part in told:
        assert part in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["my.jsonl"]
