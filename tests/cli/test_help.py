"""Someone who has never seen Hydra finds the way; Hydra's own ways work too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from command import sft


def test_help_teaches(tmp_path: Path) -> None:
    ended = sft("--help", cwd=tmp_path)
    assert ended.code == 0
    for text in ("recipe=quickstart", "hardware: ", "rtx3060", "dry_run=true", "lora.r=4,8,16", "sft-runner recipes"):
        assert text in ended.out
    assert not list(tmp_path.iterdir())


def test_recipes_are_listed_with_goal_and_command(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text("# goal: my own\nlora: {r: 4}\n")
    ended = sft("recipes", cwd=tmp_path)
    assert ended.code == 0
    assert "my own" in ended.out
    assert "python -m sft_runner recipe=quickstart" in ended.out


def test_keys_are_listed_with_meaning_and_default(tmp_path: Path) -> None:
    ended = sft("keys", "lora", cwd=tmp_path)
    assert ended.code == 0
    assert "lora.r=null" in ended.out
    assert "Rank" in ended.out
    assert sft("keys", "lroa", cwd=tmp_path).code == 2
    assert "parts: name, output_dir" in sft("keys", "nothing", cwd=tmp_path).out
    assert "hardware.chosen" not in sft("keys", "hardware", cwd=tmp_path).out


def test_models_says_what_to_do_when_there_is_none(tmp_path: Path) -> None:
    ended = sft("models", cwd=tmp_path)
    assert ended.code == 0
    assert "recipe=quickstart" in ended.out


def test_the_composed_configuration_can_be_shown(tmp_path: Path) -> None:
    ended = sft("recipe=quickstart", "--cfg", "job", cwd=tmp_path)
    assert ended.code == 0
    assert "name: embedded:tiny" in ended.out


def test_no_recipe_says_what_to_do(tmp_path: Path) -> None:
    ended = sft(cwd=tmp_path)
    assert ended.code == 2
    assert "recipe=quickstart" in ended.err


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("recipe=qui", "recipe=quickstart"),
        ("hardware=rtx", "hardware=rtx3060"),
        ("recipe=quickstart lora.lora_al", "lora.lora_alpha="),
    ],
)
def test_tab_completion(line: str, offered: str, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("sft-runner")
    text = f"{program} {line}"
    environment = {**os.environ, "COMP_LINE": text, "COMP_POINT": str(len(text))}
    ended = subprocess.run(
        [program, "-sc", "query=bash"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert offered in ended.stdout.split()
