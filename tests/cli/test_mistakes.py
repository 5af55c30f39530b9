"""Whatever the user writes wrong is told in the user's words, fast, with a suggestion, and leaves nothing behind."""

import time
from pathlib import Path

import pytest

from command import fresh, sft

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
    "a template that is not there": (["recipe=quickstart", "data.template=chtml"], ["template 'chtml'", "sage_alpaca"]),
    "no data": (["recipe=qa"], ["data.path"]),
    "data that is not there": (["recipe=qa", "data.path=none.jsonl"], ["data.path", "none.jsonl"]),
    "a model folder that is not there": (["recipe=quickstart", "model.name=./nowhere"], ["model.name", "./nowhere"]),
    "a part for a setting": (["recipe=quickstart", "quantization=4"], ["group of settings", "quantization.bits=4"]),
    "a larger part": (
        ["recipe=quickstart", "train.early_stopping=3"],
        ["group of settings", "early_stopping.patience"],
    ),
    "another program's word": (["recipe=quickstart", "lora.rank=4"], ["'lora.rank'", "'lora.r'"]),
    "another program's part": (["recipe=quickstart", "lr=1e-4"], ["'lr'", "'train.learning_rate'"]),
    "a card of another preset": (["recipe=code", "hardware=v100"], ["hardware 'v100'", "'t4' is made for it too"]),
    "a sweep without -m": (["recipe=quickstart", "method=lora,dora"], ["method=lora,dora", "-m"]),
    "a list without brackets": (["recipe=quickstart", "tracking=mlflow,none"], ["tracking=[mlflow,none]"]),
    "a tracker and none": (["recipe=quickstart", "tracking=[none,mlflow]"], ["tracking=[mlflow]"]),
    "no time": (["recipe=quickstart", "train.max_hours=0"], ["train.max_hours=0", "above 0"]),
    "a word for hours": (["recipe=quickstart", "train.max_hours=long"], ["train.max_hours is a number, or null"]),
    "no data, and no room": (
        ["hardware=rtx3060", "model=qwen2.5-7b", "method=full"],
        ["data.path is not set", "does not fit hardware=rtx3060", "method=qlora"],
    ),
    "a job of a sweep": (
        ["-m", "recipe=quickstart", "method=lora,full", "quantization.bits=8"],
        ["job 1: quantization.bits=8 does not go with method=full"],
    ),
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
    assert min(fresh("recipe=quickstart", "lora.rr=4", cwd=tmp_path).seconds for _ in range(3)) < max(1.0, 5 * bare)


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
        ("defaults:\n  - override /method: qlroa\n", ["recipes/mine.yaml, line 2", "method 'qlroa'", "qlora"]),
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


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        (
            "method/bad",
            "# @package _global_\nlora: {r: 4\ntrain: {}\n",
            ["conf/method/bad.yaml, line 3", "not valid YAML"],
        ),
        ("method/bad", "adapter: lora\n", ["conf/method/bad.yaml, line 1", "'# @package _global_'"]),
        ("method/bad", "", ["conf/method/bad.yaml, line 1", "'# @package _global_'"]),
        ("method/bad", "# @package _global_\nlora: {rr: 4}\n", ["conf/method/bad.yaml, line 2", "lora.rr"]),
        ("hardware/bad", "name: a\nmemory: 8\n", ["conf/hardware/bad.yaml, line 2", "'hardware.memory_gb'"]),
        (
            "hardware/bad",
            "memory_gb: lots\n",
            ["conf/hardware/bad.yaml, line 1", "hardware.memory_gb=lots", "a number"],
        ),
        ("hardware/bad", "- 1\n", ["conf/hardware/bad.yaml", "mapping"]),
        ("local/default", "# mine\ntrain: {sed: 9}\n", ["conf/local/default.yaml, line 2", "train.seed"]),
        ("local/mine", "train: {sed: 9}\n", ["conf/local/mine.yaml, line 1", "train.seed"]),
        ("sft", "defaults: [schema]\ntrian: {seed: 9}\n", ["conf/sft.yaml, line 2", "'trian'"]),
        ("sft", "train: {seed: 9\n", ["conf/sft.yaml, line 2", "not valid YAML"]),
    ],
)
def test_a_mistake_in_a_file_of_conf_has_its_line(file: str, text: str, told: list[str], tmp_path: Path) -> None:
    path = tmp_path / "conf" / f"{file}.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    group, _, name = file.rpartition("/")
    words = {"local": [f"local@_global_={name}"], "": []}.get(group, [f"{group}={name}"])
    ended = sft("recipe=quickstart", *words, cwd=tmp_path)
    assert ended.code == 2, ended.said
    assert "Traceback" not in ended.said
    for part in told:
        assert part in ended.err


def test_a_card_that_is_not_there_is_told_before_anything_runs(tmp_path: Path) -> None:
    words = ["recipe=quickstart", "hardware=l4"]
    ended = sft(*words, cwd=tmp_path, CUDA_VISIBLE_DEVICES="")
    assert ended.code == 3, ended.said
    assert "hardware=l4 needs an NVIDIA card" in ended.err
    assert "CUDA_VISIBLE_DEVICES" in ended.err
    assert not list(tmp_path.glob("outputs/stages/*"))
    assert sft(*words, "dry_run=true", cwd=tmp_path, CUDA_VISIBLE_DEVICES="").code == 0


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
