"""A project with a recipe, and runs of it as a real run leaves them, made by hand in a moment."""

import json
from pathlib import Path
from platform import node
from typing import Any

from run_folders import run_folder
from sft_runner.config import sources
from sft_runner.disk import read_json
from sft_runner.fingerprint import Hashes
from sft_runner.review.record.made import made

WORDS = ("hardware=cpu", "model=tiny", "data.path=my data.jsonl")
RECIPE = """\
# goal:     a test
# hardware: any CPU
# result:   not measured yet
# command:  python -m sft_runner recipe=mine hardware=cpu
train:
  learning_rate: 5e-3
evaluate:
  gates: {loss: {min_gain: 0}}
"""
GATE = {
    "gate": "loss",
    "limit": "min_gain",
    "wanted": 0.0,
    "found": 7.06,
    "passed": True,
    "missed_by": None,
    "interval": [6.9, 7.2],
    "sure": False,
    "measured": [],
}
MISSED = GATE | {
    "gate": "exact_match",
    "limit": "min",
    "wanted": 0.6,
    "found": 0.41,
    "passed": False,
    "missed_by": 0.19,
}


def project(folder: Path, recipe: str = "mine") -> Path:
    """A recipe and its data in a user's folder, which must be the current one; returns the recipe's file."""
    (folder / "recipes").mkdir(exist_ok=True)
    path = folder / "recipes" / f"{recipe}.yaml"
    path.write_text(RECIPE)
    sources.forget()
    rows = ({"prompt": f"{number} + 1?", "completion": f"{number + 1}"} for number in range(8))
    (folder / "my data.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def run(folder: Path, recipe: str = "mine", words: tuple[str, ...] = WORDS, **more: Any) -> Path:
    """The folder of a finished run of `recipe=RECIPE WORDS`, with the fingerprints that it would have."""
    found = made(recipe, words, Hashes(folder / "hashes.json"))
    assert found is not None
    more = {"gates": [GATE], "host": node(), "choices": {"recipe": recipe}, **more}
    more.setdefault("overrides", [f"recipe={recipe}", *words, f"output_dir={folder}/out", "tracking=[]"])
    path = run_folder(folder / "out", name=more.pop("name", recipe), **more)
    known = read_json(path / "run.json")
    for stage, ingredients in found.stages.items():
        if stage not in known["stages"]:
            continue
        place = folder / "out" / "stages" / stage
        new = place / ingredients.fingerprint()
        if (place / known["stages"][stage]).is_dir() and not new.exists():
            (place / known["stages"][stage]).rename(new)
            manifest = read_json(new / "manifest.json") | vars(ingredients) | {"fingerprint": new.name}
            (new / "manifest.json").write_text(json.dumps(manifest))
        known["stages"][stage] = new.name
    (path / "run.json").write_text(json.dumps(known))
    return path
