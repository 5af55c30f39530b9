"""A project with a recipe, and runs of it as a real run leaves them, made by hand in a moment."""

import json
from pathlib import Path
from platform import node
from typing import Any

from run_folders import run_folder
from sft_runner import seal
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
  gates: {loss: {min_gain: 0.0}}
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
MACHINE = {"cores": 2, "memory_gb": 8.2}
MISSED = GATE | {
    "gate": "exact_match",
    "limit": "min",
    "wanted": 0.6,
    "found": 0.41,
    "passed": False,
    "missed_by": 0.19,
    "interval": [0.34, 0.48],
}
GATES = {"loss": {"min_gain": 0.0}}
BOTH = {"exact_match": {"min": 0.6}, **GATES}
"""The limits of the verdicts above, in their order."""


def project(folder: Path, recipe: str = "mine", gates: dict[str, Any] | None = None) -> Path:
    """A recipe and its data in a user's folder, which must be the current one; returns the recipe's file."""
    (folder / "recipes").mkdir(exist_ok=True)
    path = folder / "recipes" / f"{recipe}.yaml"
    path.write_text(RECIPE if gates is None else RECIPE.replace("{loss: {min_gain: 0.0}}", json.dumps(gates)))
    sources.forget()
    rows = ({"prompt": f"{number} + 1?", "completion": f"{number + 1}"} for number in range(8))
    (folder / "my data.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def run(folder: Path, recipe: str = "mine", words: tuple[str, ...] = WORDS, **more: Any) -> Path:
    """The sealed folder of a finished run of `recipe=RECIPE WORDS`, with the fingerprints that it would have."""
    found = made(recipe, words, Hashes(folder / "hashes.json"))
    assert found is not None
    more = {"gates": [GATE], "host": node(), "machine": MACHINE, "choices": {"recipe": recipe}, **more}
    limits = BOTH if MISSED in more["gates"] else GATES if more["gates"] else {}
    more["config"] = {"evaluate.gates": limits, **more.get("config", {})}
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
    sealed(path)
    return path


def sealed(path: Path) -> None:
    """Seal a run folder as it is now."""
    known = read_json(path / "run.json") | {"sealed": True}
    (path / "run.json").write_text(json.dumps(known))
    folders = {stage: path.parents[2] / "stages" / stage / name for stage, name in known["stages"].items()}
    manifests = {stage: (folder, read_json(folder / "manifest.json")) for stage, folder in folders.items()}
    seal.of_run(path, {stage: entry for stage, entry in manifests.items() if entry[1]})
