"""Every shipped recipe composes on every hardware preset and plans without a network."""

import json
from pathlib import Path

import pytest

from sft_runner import load, plan
from sft_runner.config import sources
from sft_runner.errors import UserError
from sft_runner.planning import Plan

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
PRESETS = [*sorted(path.stem for path in (ROOT / "conf" / "hardware").glob("*.yaml")), "auto"]
ROWS = {
    "qa": {"question": "What is 1 + 1?", "answer": "2"},
    "chat": {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]},
    "instruction": {"instruction": "Say hello.", "input": "", "output": "hello"},
    "custom": {"prompt": "a", "completion": "b"},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with a little code in it."""
    (tmp_path / "code.py").write_text(
        'def double(x):\n    """Twice the number that is given."""\n    y = x\n    y += x\n    return y\n'
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(recipe: str, folder: Path, *words: str) -> Plan:
    if recipe == "docs":
        (folder / "guide.md").write_text(
            "# Guide\n\n## Install\n\nUnpack the archive into a folder of its own, and start the program in it.\n"
        )
        words = (f"data.path={folder}", *words)
    if recipe in ROWS:
        (folder / "my.jsonl").write_text(json.dumps(ROWS[recipe]) + "\n")
        words = (f"data.path={folder / 'my.jsonl'}", *words)
    return plan(load(f"recipe={recipe}", *words))


def test_there_are_recipes() -> None:
    assert {"quickstart", "code", "qa", "chat", "instruction", "custom"} <= set(RECIPES)
    assert {"cpu", "minimal", "rtx3060", "rtx4090", "a100", "auto"} <= set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_on_preset(recipe: str, preset: str, folder: Path) -> None:
    made = planned(recipe, folder, f"hardware={preset}")
    assert [step.stage for step in made.steps] == ["prepare", "baseline", "train", "merge", "evaluate", "serve"]
    assert not (folder / "outputs").exists()


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("method", sources.options("method"))
def test_recipe_with_method(recipe: str, method: str, folder: Path) -> None:
    assert planned(recipe, folder, f"method={method}").run.choices["method"] == method


@pytest.mark.parametrize("recipe", RECIPES)
def test_header_says_goal_hardware_result_and_command(recipe: str) -> None:
    header = sources.recipes()[recipe].header
    assert {"goal", "hardware", "result", "command"} <= set(header)
    assert header["command"].startswith(f"python -m sft_runner recipe={recipe}")


@pytest.mark.parametrize("recipe", sorted(ROWS))
def test_recipes_for_own_data_ask_for_it(recipe: str, folder: Path) -> None:
    with pytest.raises(UserError, match=r"data\.path"):
        plan(load(f"recipe={recipe}"))
