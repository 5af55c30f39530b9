"""How fast training is here, in bare TRL and in LLaMA-Factory: same rows, same base, same steps, in turns, in one run.

    python -m benchmarks.train [--llamafactory .../bin/llamafactory-cli] [--packing] [--model embedded:tiny]

The rows are GSM8K's, the base a random one of 2 M parameters without its embedding, the tokenizer a byte-level BPE of
`--vocabulary` entries; `--model` takes another model with its own tokenizer. `--packing` adds this project with
`train.packing=true`, which puts the same rows into each step. TRL is slow on the CPU and trains on fewer rows (`--trl`
steps, 0 leaves it out). `--overhead` adds what the train stage takes around `Trainer.train`, in CPU seconds. Tokens
are those of rows, padding not counted. On a machine with a card all train in bfloat16 on it, and memory is the card's;
CPU seconds mean nothing there. Other work on the machine disturbs seconds more than CPU seconds; for a fair comparison
of these set OMP_NUM_THREADS=1.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.base import make_base
from benchmarks.rows import prepare, shortened
from benchmarks.trainers import Measured, Task, llamafactory, on_card, quiet, sft_runner, trl

ROOT = Path(__file__).parents[1]
OURS, PACKED = "sft_runner", "sft_runner packed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data", help="folder with gsm8k_train.jsonl")
    parser.add_argument("--model", help="a model's name or folder; else a small random one")
    parser.add_argument("--vocabulary", type=int, default=16_384, help="tokens of the random model")
    parser.add_argument("--length", type=int, default=2048, help="data.max_length")
    parser.add_argument("--steps", type=int, default=10, help="optimizer steps of each training")
    parser.add_argument("--trl", type=int, default=2, help="steps of TRL")
    parser.add_argument("--batch-size", type=int, default=16, help="rows in a step")
    parser.add_argument("--micro-batch", type=int, default=16, help="rows in a pass")
    parser.add_argument("--rounds", type=int, default=2, help="measurements of each, in turns")
    parser.add_argument("--packing", action="store_true", help="measure train.packing=true too")
    parser.add_argument("--overhead", action="store_true", help="print what the stage takes around the training")
    parser.add_argument("--llamafactory", type=Path, help="measure that `llamafactory-cli` too")
    asked = parser.parse_args()
    quiet()
    rows = asked.data / "gsm8k_train.jsonl"
    if not rows.is_file():
        sys.exit(f"{rows} is not there: name its folder with --data")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        model = asked.model or str(make_base(asked.data, work / "base", asked.vocabulary))
        base, prepared = prepare(model, rows, work / "prepared", asked.length)
        tokens = shortened(prepared, work / "rows", asked.steps * asked.batch_size)
        task = Task(
            base=base,
            prepared=work / "rows",
            work=work / "work",
            length=asked.length,
            batch_size=asked.batch_size,
            micro_batch=asked.micro_batch,
            dtype="bfloat16" if on_card() else "float32",
        )
        ways: dict[str, Callable[[], Measured]] = {OURS: partial(sft_runner, task)}
        counts = {OURS: tokens}
        if asked.packing:
            ways[PACKED], counts[PACKED] = partial(sft_runner, replace(task, packing=True)), tokens
        if asked.llamafactory:
            counts["LLaMA-Factory"] = tokens
            ways["LLaMA-Factory"] = partial(llamafactory, task, asked.llamafactory)
        if asked.trl:
            counts["TRL"] = shortened(prepared, work / "few", asked.trl * asked.batch_size)
            ways["TRL"] = partial(trl, replace(task, prepared=work / "few"))
        print(f"{_machine()}; {tokens:,} tokens in {asked.steps} steps of {asked.batch_size} rows", flush=True)
        print(f"{'':<18} {'s':>7} {'CPU s':>7} {'tokens/s':>9} {'tokens/CPU s':>13} {'memory MB':>10} {'loss':>8}")
        measured: dict[str, list[Measured]] = {way: [] for way in ways}
        for number in range(asked.rounds):
            for way, function in ways.items():
                if number and way == "TRL":
                    continue  # one is enough to see it
                found = function()
                measured[way].append(found)
                print(_line(way, found, counts[way]), flush=True)
        _ratios(measured, counts)
        if asked.overhead:
            around, inside = (
                statistics.median(getattr(one, part) for one in measured[OURS]) for part in ("around", "cpu_seconds")
            )
            print(f"around Trainer.train: {around:.2f} CPU s, {around / inside:.1%} of the {inside:.2f} inside it")


def _line(way: str, found: Measured, tokens: int) -> str:
    rates = f"{tokens / found.seconds:9,.0f} {tokens / found.cpu_seconds:13,.0f}"
    figures = f"{found.seconds:7.2f} {found.cpu_seconds:7.2f} {rates} {found.memory / 1e6:10,.0f}"
    return f"{way:<18} {figures} {found.loss:8.5f}"


def _ratios(measured: dict[str, list[Measured]], tokens: dict[str, int]) -> None:
    """How many times the tokens per second of each other way this project reaches."""

    def rate(way: str, unit: str) -> float:
        return tokens[way] / statistics.median(getattr(found, unit) for found in measured[way])

    print()
    for way in measured:
        if way != OURS:
            ours = [OURS] if way == PACKED else [way for way in (OURS, PACKED) if way in measured]
            for own in ours:
                pair = (way, OURS) if way == PACKED else (own, way)
                ratios = [rate(pair[0], unit) / rate(pair[1], unit) for unit in ("seconds", "cpu_seconds")]
                print(f"{pair[0]} / {pair[1]} = {ratios[0]:.2f} in tokens/s, {ratios[1]:.2f} in tokens per CPU second")


def _machine() -> str:
    import torch

    if on_card():
        return str(torch.cuda.get_device_name())
    return f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
