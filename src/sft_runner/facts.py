"""What a plan says below its table: how long and how many the rows are, how a step is made, what was filled in."""

import math
from collections.abc import Mapping
from typing import Any

from sft_runner.config.run import Run
from sft_runner.config.schema import Config, Train
from sft_runner.data.packing import packs_per_step
from sft_runner.hardware import fit


def facts(run: Run, prepared: Mapping[str, Any] | None) -> list[str]:
    """The lines. `prepared` is the manifest of the prepared rows, where they are there already."""
    config = run.config
    numbers = prepared["metrics"] if prepared else None
    told = [
        f"base: {_base(config.quantization.bits)}, {config.hardware.dtype}",
        f"rows: up to {config.data.max_length:,} tokens{_learned(config, numbers)}",
        f"batch: {_batch(config, numbers)}",
    ]
    titles = {False: "filled in", True: "approximations of the preset, they change what is learned"}
    for approximates, title in titles.items():
        chosen = [decision for decision in run.decisions if decision.approximates is approximates]
        told.append(f"{title}:" if chosen else f"{title}: none")
        told += [f"  {d.key}={_text(d.value)}".ljust(36) + f"  {d.reason}" for d in chosen]
    return told


def _learned(config: Config, numbers: Mapping[str, Any] | None) -> str:
    """Rows, tokens and steps of the training, once they are known."""
    if numbers is None:
        return ""
    rows, tokens = numbers["packing"]["rows"], numbers["tokens"]["train"]
    packing = config.train.packing
    units, size = (numbers["packing"]["packs"], _packs(config, numbers)) if packing else (rows, config.train.batch_size)
    return f"; {rows:,} to learn from, {tokens:,} tokens; {_steps(config.train, units, size):,} steps"


def _batch(config: Config, numbers: Mapping[str, Any] | None) -> str:
    """How the rows of a step are fed to the machine."""
    hardware, size = config.hardware, config.train.batch_size
    checkpointing = ", activation checkpointing" if hardware.activation_checkpointing in ("selective", "full") else ""
    if not config.train.packing:
        batch = fit(size, hardware.per_device_train_batch_size or size)
        solved = f"micro-batch {batch.micro_batch} x accumulation {batch.accumulation}"
        return f"{size} rows a step = {solved}{checkpointing}"
    if numbers is None:
        return f"about {size} rows a step, packed into rows of {config.data.max_length:,} tokens{checkpointing}"
    packs, found = _packs(config, numbers), numbers["packing"]
    batch = fit(packs, hardware.per_device_train_batch_size or packs)
    rows = packs * found["rows"] / found["packs"]
    tokens = packs * numbers["tokens"]["train"] / found["packs"]
    text = f"{rows:.1f} rows and {tokens:,.0f} tokens a step in {packs} packs, {found['efficiency']:.1%} full"
    text += f" = micro-batch {batch.micro_batch} x accumulation {batch.accumulation}{checkpointing}"
    if not 0.8 <= rows / size <= 1.25:
        text += f"; train.batch_size={size} asks for {size}: a smaller data.max_length comes nearer"
    return text


def _packs(config: Config, numbers: Mapping[str, Any]) -> int:
    """Packs in a step."""
    return packs_per_step(numbers["packing"]["rows"], numbers["packing"]["packs"], config.train.batch_size)


def _steps(train: Train, units: int, size: int) -> int:
    """Optimizer steps: as transformers counts them."""
    if train.max_steps > 0:
        return train.max_steps
    return math.ceil(train.num_train_epochs * math.ceil(units / size))


def _base(bits: str) -> str:
    return "not quantised" if bits == "none" else f"{bits}-bit"


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
