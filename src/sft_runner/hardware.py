"""What this machine has, and how a batch fits on it. Every choice comes with its reason.

NVML is asked, not torch: it answers in milliseconds and takes no memory on the card.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

GB = 1e9
"""Bytes in a GB, as `hardware.memory_gb` and the cards' makers count."""
NAMED = (
    ("H200", 130, "h200"),
    ("H100", 75, "h100"),
    ("A100", 39, "a100"),
    ("L40S", 44, "l40s"),
    ("4090", 23, "rtx4090"),
    ("3090", 23, "rtx3090"),
    ("L4", 22, "l4"),
    ("T4", 14, "t4"),
    ("3060", 11, "rtx3060"),
)
"""Word in a card's name, GB that it must have (laptops and parts of a card have less), preset."""
NEAREST = ((12, "minimal"), (23, "rtx3060"), (39, "rtx4090"), (44, "a100"), (75, "l40s"), (130, "h100"))
"""Other cards below so many GB -> preset; larger ones take `h200`. A preset fits the smallest card that takes it."""
BFLOAT16 = (8, 0)
"""Compute capability from which on a card has bfloat16: Ampere."""


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
    capability: tuple[int, int]
    """CUDA compute capability, such as (8, 9) for Ada."""


@dataclass(frozen=True)
class Choice:
    """A preset for a machine."""

    preset: str
    """Its name."""
    reason: str
    """What was seen, in one line."""
    values: dict[str, Any] = field(default_factory=dict)
    """Fields of the preset that this very card has otherwise."""


def fit(batch_size: int, per_device: int) -> Fit:
    """The largest micro-batch up to `per_device` that divides `batch_size`, so that each step has its exact rows."""
    micro_batch = max(rows for rows in range(1, min(batch_size, per_device) + 1) if batch_size % rows == 0)
    return Fit(micro_batch, batch_size // micro_batch)


def detect() -> Choice:
    """The preset for this machine."""
    return choose(cards())


def choose(found: Sequence[Card]) -> Choice:
    """The preset for the first of the cards that this process may use: by its name, else by memory and capability."""
    if not found:
        return Choice("cpu", "no NVIDIA card found")
    card = found[0]
    values: dict[str, Any] = {"memory_gb": round(card.memory_gb, 2)}
    half = card.capability < BFLOAT16
    seen = f"{card.name}, {card.memory_gb:.0f} GB, {'no bfloat16' if half else 'bfloat16'}"
    if len(found) > 1:
        seen += f", the first of {len(found)} cards"
    preset = _named(card)
    if preset is None:
        preset = next((name for below, name in NEAREST if card.memory_gb < below), "h200")
        seen += "; no preset of its own"
        values["tflops"] = 0.0  # the preset's figure is another card's
        if half:
            preset = "minimal" if preset == "minimal" else "t4"
            values["dtype"] = "float16"
    return Choice(preset, seen, values)


def _named(card: Card) -> str | None:
    """The preset made for this card."""
    words = re.split(r"[^A-Za-z0-9]+", card.name)
    return next((preset for word, least, preset in NAMED if word in words and card.memory_gb >= least), None)


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
                capability=tuple(pynvml.nvmlDeviceGetCudaComputeCapability(handles[index])),
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
