"""How good the trained adapters are: this project, bare TRL and LLaMA-Factory, by their loss on held-out rows.

    python -m benchmarks.quality [--llamafactory .../bin/llamafactory-cli] [--packing] [--steps 60 12]

Two tasks with the embedded model: the dates of the quickstart, and GSM8K. For each task and seed all three get the same
base, token ids, labels, rows, adapter, schedule and number of steps; the seed draws the order of the rows and the start
of the adapter. Every adapter is then scored on the same held-out rows by this project's own scoring. LLaMA-Factory
reads the tokens from disk, so that no template of its own stands between. The last line of a task says whether this
project's mean loss is no worse than the others' by more than the spread of the seeds.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.rows import prepare, shortened
from benchmarks.trainers import Measured, Task, llamafactory, quiet, sft_runner, trl

ROOT = Path(__file__).parents[1]
MODEL = "embedded:tiny"
OURS = "sft_runner"
ROUNDING = 1e-4
"""What the order of sums alone moves a loss by, in nats."""
Way = Callable[[Task], Measured]


@dataclass(frozen=True)
class Subject:
    """One task."""

    name: str
    """What the table calls it."""
    rows: str
    """`data.path`."""
    overrides: tuple[str, ...]
    """How its rows are prepared."""
    learning_rate: float
    """Peak rate."""
    held_out: int
    """Held-out rows that are scored."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data", help="folder with gsm8k_train.jsonl")
    parser.add_argument("--steps", type=int, nargs=2, default=[60, 12], help="of dates and of GSM8K; 0: none")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each")
    parser.add_argument("--packing", action="store_true", help="train.packing=true for this project")
    parser.add_argument("--llamafactory", type=Path, help="that `llamafactory-cli` too")
    asked = parser.parse_args()
    quiet()
    rows = asked.data / "gsm8k_train.jsonl"
    if not rows.is_file():
        sys.exit(f"{rows} is not there: name its folder with --data")
    ways: dict[str, Way] = {OURS: sft_runner, "TRL": trl}
    if asked.llamafactory:
        ways["LLaMA-Factory"] = partial(llamafactory, command=asked.llamafactory)
    subjects = (
        Subject("dates", "embedded:dates", ("data.format=alpaca", "data.held_out=200"), 5e-3, 200),
        Subject("GSM8K", str(rows), (), 2e-3, 50),
    )
    for subject, steps in zip(subjects, asked.steps, strict=True):
        if not steps:
            continue
        with tempfile.TemporaryDirectory() as work:
            _compare(subject, ways, steps, asked.seeds, asked.packing, Path(work))


def _compare(subject: Subject, ways: dict[str, Way], steps: int, seeds: int, packing: bool, work: Path) -> None:
    base, prepared = prepare(MODEL, Path(subject.rows), work / "prepared", 2048, *subject.overrides)
    tokens = shortened(prepared, work / "rows", steps * 16)
    task = Task(base, work / "rows", work / "work", learning_rate=subject.learning_rate, packing=packing)
    print(f"{subject.name}, loss on held-out rows after {steps} steps, {tokens:,} tokens", flush=True)
    losses: dict[str, list[float]] = {way: [] for way in ways}
    for seed in range(seeds):
        for way, train in ways.items():
            found = train(replace(task, seed=seed))
            losses[way].append(held_out_loss(task, found.adapter, subject.held_out))
        print(f"  seed {seed}   " + "   ".join(f"{way} {found[-1]:.4f}" for way, found in losses.items()), flush=True)
    for way, found in losses.items():
        print(f"  {way:<14} {statistics.mean(found):.4f} +- {spread(found):.4f}")
    print(f"  {verdict(losses)}\n", flush=True)


def held_out_loss(task: Task, adapter: Path, rows: int) -> float:
    """Nats for each answer token of held-out rows, by the code of the evaluate stage."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sft_runner.evaluation.scoring import score
    from sft_runner.model.rows import held_out

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(task.base, dtype=torch.float32), adapter)
    tokenizer = AutoTokenizer.from_pretrained(task.base)
    scores = score(model, tokenizer, held_out(task.prepared, rows), [], 1, task.micro_batch, lambda **_: None)
    return float(scores.metrics["loss"])


def spread(values: list[float]) -> float:
    """The standard deviation of some seeds; 0 of one."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def verdict(losses: dict[str, list[float]]) -> str:
    """Whether this project's mean is no worse than each other's by more than the larger of both spreads."""
    ours, told = losses[OURS], []
    for way, found in losses.items():
        if way != OURS:
            gap = statistics.mean(ours) - statistics.mean(found)
            word = "no worse than" if gap <= max(spread(ours), spread(found), ROUNDING) else "WORSE than"
            told.append(f"{word} {way} ({gap:+.4f})")
    return f"{OURS}: {', '.join(told)}"


if __name__ == "__main__":
    main()
