"""`sft-runner diff` over many recipes that one value of a group touches, beside two plans of each recipe by Hydra.

    python benchmarks/diff.py --recipes 100
    python benchmarks/diff.py --recipes 100 --hardware rtx3060

Both run on the same project in the same minute, in folders of their own. The plans are what a reviewer would otherwise
compare by hand: every recipe composed by Hydra and planned, before and after, in one process, so that imports are paid
once. Processor time is told beside the clock's: the two sides of a diff are looked at at the same time, and where other
work runs the clock says little.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

RECIPE = """\
# command: sft-runner recipe={name} hardware={hardware}
defaults:
  - override /model: {model}
  - override /data: dates
  - override /method: ours
train: {{seed: {number}, batch_size: {batch}}}
evaluate:
  gates:
    loss: {{min_gain: 0}}
"""
METHOD = "# @package _global_\nadapter: lora\ntrain: {learning_rate: 1e-4}\n"
MODELS = ("tiny", "qwen2.5-0.5b", "llama3.2-1b", "smollm2-135m", "gemma3-270m")
PLANS = """
import sys
from sft_runner import plan
from sft_runner.config import composing
for name in sys.argv[3:]:
    words = [f"recipe={name}", sys.argv[2]]
    composing.check(words)
    plan(composing.by_hydra(words))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", type=int, default=100)
    parser.add_argument("--hardware", default="cpu")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        names = [f"recipe_{number:03}" for number in range(asked.recipes)]
        (folder / "recipes").mkdir()
        (folder / "conf" / "method").mkdir(parents=True)
        for number, name in enumerate(names):
            model, batch = MODELS[number % len(MODELS)], 2 ** (2 + number % 4)
            text = RECIPE.format(name=name, hardware=asked.hardware, model=model, number=number, batch=batch)
            (folder / "recipes" / f"{name}.yaml").write_text(text)
        method = folder / "conf" / "method" / "ours.yaml"
        method.write_text(METHOD)
        for words in (
            ["init", "-q"],
            ["add", "-A"],
            ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"],
        ):
            subprocess.run(["git", *words], cwd=folder, check=True)
        plans = [_seconds(folder, "-c", PLANS, "old", f"hardware={asked.hardware}", *names)]
        method.write_text(METHOD.replace("1e-4", "2e-4"))
        plans.append(_seconds(folder, "-c", PLANS, "new", f"hardware={asked.hardware}", *names))
        taken = [_seconds(folder, "-m", "sft_runner", "diff", code=2) for _ in range(3)]
    print(f"{asked.recipes} recipes on {asked.hardware}, all touched by one value")
    wall, cpu = min(taken)
    told = ", ".join(f"{one:.2f}" for one, _ in taken)
    print(f"sft-runner diff   {wall:6.2f} s, processors {cpu:6.2f} s   (three times: {told})")
    wall, cpu = (sum(one) for one in zip(*plans, strict=True))
    print(f"plans by Hydra    {wall:6.2f} s, processors {cpu:6.2f} s")


def _seconds(folder: Path, *words: str, code: int = 0) -> tuple[float, float]:
    """Seconds of a command by the clock, and of all processors."""
    began, before = time.perf_counter(), getrusage(RUSAGE_CHILDREN)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    if ended.returncode != code:
        raise SystemExit(ended.stdout + ended.stderr)
    after = getrusage(RUSAGE_CHILDREN)
    return time.perf_counter() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
