"""A project with one recipe that can be locked, and a model in a hub cache made by hand."""

import shutil
from pathlib import Path

from sft_runner.model.files import EMBEDDED

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "1123456789abcdef0123456789abcdef01234567"
HUB_MODEL = "someone/tiny"
RECIPE = """\
# goal:     a try
# command:  python -m sft_runner recipe=mine hardware=cpu
defaults:
  - override /model: tiny

data:
  path: rows.jsonl
  held_out: 2
train:
  learning_rate: 2e-4
  max_steps: 2
  batch_size: 4
evaluate:
  limit: 2
  max_new_tokens: 4
  gates:
    loss: {max: 100}
"""


def write_project(folder: Path, model: str = "", rows: int = 20) -> Path:
    """`recipes/mine.yaml` and its rows; `model` instead of the embedded one."""
    (folder / "recipes").mkdir()
    write_recipe(folder, model)
    lines = (f'{{"question": "What is {n}?", "answer": "It is {n}."}}\n' for n in range(rows))
    (folder / "rows.jsonl").write_text("".join(lines))
    return folder


def write_recipe(folder: Path, model: str = "") -> None:
    """`recipes/mine.yaml` with a model of this name, instead of the embedded one."""
    own = RECIPE.replace("data:\n", f"model: {{name: {model}}}\ndata:\n", 1) if model else RECIPE
    (folder / "recipes/mine.yaml").write_text(own)


def write_snapshot(hub: Path, commit: str = COMMIT, newest: bool = True) -> Path:
    """The embedded model as `hf download` leaves a model of the hub."""
    folder = hub / f"models--{HUB_MODEL.replace('/', '--')}"
    snapshot = folder / "snapshots" / commit
    shutil.copytree(EMBEDDED / "tiny", snapshot)
    if newest:
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs/main").write_text(commit)
    return snapshot
