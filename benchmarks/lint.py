"""How long 100 recipes take to lint, as a whole command, beside composing each of them with Hydra, in one run.

    python benchmarks/lint.py [--recipes 100] [--hydra 100] [--folder DIR]

The project has what real ones have: headers with commands, group files of its own, and recipes that extend others.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sft_runner.review.record.table import COLUMNS

CARDS = ("rtx3060", "rtx4090", "a100", "cpu")
METHODS = ("lora", "qlora", "dora", "ours")
MODELS = ("qwen2.5-0.5b", "qwen2.5-1.5b", "qwen3-0.6b", "smollm2-360m")
PARENTS = 10
"""Every tenth recipe is one that the next nine extend."""


def make_project(folder: Path, recipes: int) -> Path:
    """A user's folder with so many recipes, each with a record of one row, a preset and a method of its own."""
    for name, text in {
        "conf/hardware/ours.yaml": "# the machine under the desk\nname: ours\nmemory_gb: 25\ndtype: bfloat16\n",
        "conf/method/ours.yaml": "# @package _global_\n# our own rank\nlora: {r: 12, lora_dropout: 0.05}\n",
        "my.jsonl": '{"question": "What is 1 + 1?", "answer": "2"}\n',
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "recipes").mkdir()
    for number in range(recipes):
        (folder / "recipes" / f"r{number:03}.yaml").write_text(_recipe(number))
        (folder / "recipes" / f"r{number:03}.results.md").write_text(_record(number))
    return folder


def _recipe(number: int) -> str:
    parent = number - number % PARENTS
    extends = f"  - r{parent:03}\n" if parent != number else ""
    return (
        f"# goal:     answers of department {number}\n# hardware: one card\n# result:   not measured yet\n"
        f"# command:  python -m sft_runner recipe=r{number:03} hardware={CARDS[number % 4]}\n"
        f"defaults:\n{extends}  - override /model: {MODELS[number // 4 % 4]}\n"
        f"  - override /data: qa\n  - override /method: {METHODS[number // 16 % 4]}\n\n"
        f"data:\n  path: my.jsonl\n  max_length: {512 + number}\n"
        f"train:\n  num_train_epochs: {1 + number % 3}\n  batch_size: 16   # rows of a step\n"
        "evaluate:\n  metrics: [exact_match, chrf]\n  gates:\n    loss: {min_gain: 0}\n"
    )


def _record(number: int) -> str:
    """One row, of the command in the recipe's header."""
    cells = {"words": f"`hardware={CARDS[number % 4]}`", "fingerprint": "`0123456789abcdef`"}
    rows = (COLUMNS, ["---"] * len(COLUMNS), [cells.get(column, "x") for column in COLUMNS])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _lint(project: Path) -> tuple[list[float], str]:
    """Seconds of three runs, and the last line of the last one."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        ended = subprocess.run([sys.executable, "-m", "sft_runner", "lint"], cwd=project, capture_output=True)
        times.append(time.perf_counter() - began)
    return times, ended.stdout.decode().splitlines()[-1]


def main() -> None:
    """Print the seconds of both."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--recipes", type=int, default=100)
    options.add_argument("--hydra", type=int, help="how many of them Hydra composes; by default all")
    options.add_argument("--folder", type=Path, help="where to make the project; by default it is thrown away")
    words = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(words.folder or Path(folder), words.recipes)
        recorded, last = _lint(project)
        print(last)
        for record in (project / "recipes").glob("*.results.md"):
            record.unlink()
        times, _ = _lint(project)
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import sft_runner.cli"], check=True)
        start = time.perf_counter() - began
        os.chdir(project)
        from sft_runner.config.composing import by_hydra
        from sft_runner.review.cases import case

        commands = [case(f"r{number:03}").words for number in range(words.hydra or words.recipes)]
        began = time.perf_counter()
        for command in commands:
            by_hydra(command)
        composed = time.perf_counter() - began
    print(f"python's start     {start:6.2f} s")
    print(f"lint               {min(times):6.2f} s   best of 3: {', '.join(f'{one:.2f}' for one in times)}")
    print(f"with records       {min(recorded):6.2f} s   one row for each recipe")
    print(
        f"Hydra, composing   {composed:6.2f} s   {len(commands)} of them, {1000 * composed / len(commands):.0f} ms each"
    )


if __name__ == "__main__":
    main()
