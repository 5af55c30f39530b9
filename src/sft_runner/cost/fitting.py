"""How a run fits its card: the largest micro-batch and the least checkpointing, or what would fit in its place.

Neither changes what is learned: accumulation makes up the rows of a step.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sft_runner.config.schema import MODES, Config
from sft_runner.cost.activations import is_eager
from sft_runner.cost.memory import Memory, training_memory
from sft_runner.cost.precision import trains_all
from sft_runner.hardware import GB
from sft_runner.model.architecture import Architecture

MARGIN = 0.05
"""Share of a card that is kept free, for what an estimate does not see."""
ENOUGH = 2048
"""Tokens in a micro-batch that keep a card busy: more checkpointing for larger ones only costs time."""
SHORTEST = 256
"""Row length below which a shorter row is no longer offered."""


@dataclass(frozen=True)
class Fitted:
    """A way to feed the rows of a step to the machine."""

    micro_batch: int
    """Rows of full length at once."""
    checkpointing: str
    """`none`, `selective` or `full`."""
    memory: Memory
    """What it takes."""


def solve(config: Config, arch: Architecture) -> Fitted | None:
    """The best way to feed `config` to its card, or to the machine's memory; None where nothing fits."""
    best: Fitted | None = None
    sizes = sizes_of(config)
    for mode in modes_of(config, arch):
        found = _largest(config, arch, mode, sizes)
        if found is None:
            continue
        if found.micro_batch == sizes[0] or found.micro_batch * config.data.max_length >= ENOUGH:
            return found
        if best is None or found.micro_batch > best.micro_batch:
            best = found
    return best


def least(config: Config, arch: Architecture) -> Fitted:
    """The way that takes the least memory, whether it fits or not."""
    mode = modes_of(config, arch)[-1]
    return Fitted(1, mode, training_memory(config, arch, 1, mode, config.data.max_length))


def remedies(config: Config, arch: Architecture | None) -> list[tuple[str, int | None]]:
    """What is left to try when memory runs out, and the bytes each would save (None: not known). What saves nothing is
    left out.

    The order is that of what it costs in quality and time, for adapters: quantise, shorter rows, one row at a time,
    checkpointing, a lower rank.
    """
    hardware = config.hardware
    rows = hardware.per_device_train_batch_size or config.train.batch_size
    mode = hardware.activation_checkpointing if hardware.activation_checkpointing in MODES else "none"

    def takes(changed: Config, rows: int, mode: str) -> int | None:
        return training_memory(changed, arch, rows, mode, changed.data.max_length).total if arch else None

    now = takes(config, rows, mode)
    tried = [(words, takes(changed, rows, mode)) for words, changed in single_changes(config)]
    if rows > 1:
        tried.append(("hardware.per_device_train_batch_size=1", takes(config, 1, mode)))
    if mode != "full":
        tried.append(("hardware.activation_checkpointing=full", takes(config, rows, "full")))
    tried.sort(key=lambda option: option[0].startswith("lora."))
    if now is None:
        return [(words, None) for words, _ in tried]
    return [(words, now - then) for words, then in tried if then is not None and then < now]


def single_changes(config: Config) -> Iterator[tuple[str, Config]]:
    """One setting changed, of those that are settled before the micro-batch is."""
    hardware = config.hardware
    if trains_all(config):
        if hardware.optim != "paged_adamw_8bit":
            yield "hardware.optim=paged_adamw_8bit", with_hardware(config, optim="paged_adamw_8bit")
        if hardware.trained_dtype == "float32" and hardware.dtype == "bfloat16":
            yield "hardware.trained_dtype=bfloat16", with_hardware(config, trained_dtype="bfloat16")
    elif config.quantization.bits != "4":
        yield "quantization.bits=4", replace(config, quantization=replace(config.quantization, bits="4"))
    if (length := config.data.max_length // 2) >= SHORTEST:
        yield f"data.max_length={length}", replace(config, data=replace(config.data, max_length=length))
    if not trains_all(config) and (config.lora.r or 0) > 4:
        yield "lora.r=4", replace(config, lora=replace(config.lora, r=4))


def _largest(config: Config, arch: Architecture, mode: str, sizes: Sequence[int]) -> Fitted | None:
    """The largest micro-batch of `sizes` (falling) that fits."""
    for size in sizes:
        memory = training_memory(config, arch, size, mode, config.data.max_length)
        if memory.total <= room(config) * (1 - MARGIN):
            return Fitted(size, mode, memory)
    return None


def room(config: Config) -> float:
    """Bytes of the card, or on the CPU of the machine's memory."""
    if config.hardware.memory_gb > 0:
        return config.hardware.memory_gb * GB
    return float(machine())


def machine(limit: Path = Path("/sys/fs/cgroup/memory.max")) -> int:
    """Bytes of the machine's memory, or what its container may take of them (`limit`, by cgroup v2)."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(whole, int(limit.read_text()))
    except (OSError, ValueError):  # no container, or one with `max`
        return whole


def sizes_of(config: Config) -> list[int]:
    """The micro-batches that are allowed, the largest first: they divide the rows of a step."""
    rows = config.train.batch_size
    cap = min(config.hardware.per_device_train_batch_size or rows, rows)
    return [size for size in range(cap, 0, -1) if rows % size == 0]


def modes_of(config: Config, arch: Architecture | None) -> tuple[str, ...]:
    """The ways of checkpointing that are allowed, the fastest first. Where attention makes scores, `selective` has no
    kernel's output to keep, and is `full` by another name."""
    asked = config.hardware.activation_checkpointing
    if asked != "auto":
        return (asked,)
    return tuple(mode for mode in MODES if mode != "selective" or arch is None or not is_eager(config, arch))


def with_hardware(config: Config, **values: Any) -> Config:
    """The configuration with other values of `hardware.*`."""
    return replace(config, hardware=replace(config.hardware, **values))
