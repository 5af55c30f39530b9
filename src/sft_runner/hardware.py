"""What this machine has, and how a batch fits on it. Every choice comes with its reason.

NVML is asked, not torch: it answers in milliseconds and takes no memory on the card.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

GB = 1e9
"""Bytes in a GB, as `hardware.memory_gb` and the cards' makers count."""
PRESETS = ((12, "minimal"), (23, "rtx3060"), (39, "rtx4090"))
"""Cards below so many GB -> preset; larger ones take `a100`. A preset fits the smallest card that takes it."""


@dataclass(frozen=True)
class Fit:
    """How the rows of one optimizer step are fed to the machine."""

    micro_batch: int
    """Rows in one forward and backward pass."""
    accumulation: int
    """Passes whose gradients are added up before the optimizer steps."""


@dataclass(frozen=True)
class Card:
    """One accelerator, as it is built: never what happens to be free."""

    name: str
    """What NVML calls it."""
    memory_gb: float
    """Total memory in GB."""


def fit(batch_size: int, per_device: int) -> Fit:
    """The largest micro-batch up to `per_device` that divides `batch_size`, so that each step has its exact rows."""
    micro_batch = max(rows for rows in range(1, min(batch_size, per_device) + 1) if batch_size % rows == 0)
    return Fit(micro_batch, batch_size // micro_batch)


def detect() -> tuple[str, str]:
    """The preset for this machine and the reason, one line."""
    return choose(cards())


def choose(found: Sequence[Card]) -> tuple[str, str]:
    """The preset for the first of the cards that this process may use, and the reason."""
    if not found:
        return "cpu", "no NVIDIA card found"
    card = found[0]
    seen = f"{card.name}, {card.memory_gb:.0f} GB"
    if len(found) > 1:
        seen += f", the first of {len(found)} cards"
    for below, preset in PRESETS:
        if card.memory_gb < below:
            return preset, seen
    return "a100", seen


def cards() -> list[Card]:
    """The cards that `CUDA_VISIBLE_DEVICES` leaves visible, in its order; none where there is no driver."""
    try:
        import pynvml  # type: ignore[import-untyped]
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        uuids = [pynvml.nvmlDeviceGetUUID(handle) for handle in handles]
        picked = visible(uuids, os.environ.get("CUDA_VISIBLE_DEVICES"))
        return [
            Card(
                name=pynvml.nvmlDeviceGetName(handles[index]),
                memory_gb=pynvml.nvmlDeviceGetMemoryInfo(handles[index]).total / GB,
            )
            for index in picked
        ]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()


def visible(uuids: Sequence[str], setting: str | None) -> list[int]:
    """Indices of the cards that a `CUDA_VISIBLE_DEVICES` setting names, as CUDA reads it: up to the first bad entry."""
    if setting is None:
        return list(range(len(uuids)))
    picked: list[int] = []
    for entry in (part.strip() for part in setting.split(",")):
        if entry.isdecimal() and int(entry) < len(uuids):
            picked.append(int(entry))
        elif entry and (matches := [index for index, uuid in enumerate(uuids) if uuid.startswith(entry)]):
            picked.append(matches[0])
        else:
            break
    return picked
