"""What this machine has, and how a batch fits on it. Every choice comes with its reason.

NVML is asked, not torch: it answers in milliseconds and takes no memory on the card.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

PCI_ORDER = "PCI_BUS_ID"
"""The order of cards that NVML has, and CUDA where `CUDA_DEVICE_ORDER` says so: workers get it."""
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
NEAREST = ((8, "minimal"), (23, "rtx3060"), (39, "rtx4090"), (44, "a100"), (75, "l40s"), (130, "h100"))
"""Other cards below so many GB -> preset; larger ones take `h200`. A preset fits the smallest card that takes it."""
BFLOAT16 = (8, 0)
"""Compute capability from which on a card has bfloat16: Ampere."""
INT8 = (7, 5)
"""Compute capability from which on a card multiplies in 8 bits: Turing. Before, LLM.int8 is slow."""
WHOLE = 23
"""GB from which on the base need not be quantised: that of the presets for cards so large is not."""


class NotAsked(Exception):
    """There may be a card, but NVML does not tell of one that this process may use; the message says why."""


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
    slice: bool = False
    """Whether it is a part of a card (MIG); `memory_gb` is the part's."""


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
    try:
        return choose(cards())
    except NotAsked as unknown:
        return Choice("cpu", str(unknown))


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
    order = os.environ.get("CUDA_DEVICE_ORDER", PCI_ORDER)
    if order != PCI_ORDER and len({other.name for other in found}) > 1:
        seen += f"; CUDA_DEVICE_ORDER={order} may mean another one by that"
    preset = _named(card)
    if preset is None:
        preset = next((name for below, name in NEAREST if card.memory_gb < below), "h200")
        seen += "; part of a card" if card.slice else "; no preset of its own"
        values["tflops"] = 0.0  # the preset's figure is another card's
        if half:
            preset = "minimal" if preset == "minimal" else "t4"
            values |= {"dtype": "float16", **_bits(card)}
    return Choice(preset, seen, values)


def _bits(card: Card) -> dict[str, str]:
    """How a card before Ampere stores the base, where that is not its preset's way."""
    if card.memory_gb >= WHOLE:
        return {"quantization_bits": "none"}
    return {"quantization_bits": "4"} if card.capability < INT8 else {}


def _named(card: Card) -> str | None:
    """The preset made for this card."""
    if card.slice:
        return None
    words = re.split(r"[^A-Za-z0-9]+", card.name)
    return next((preset for word, least, preset in NAMED if word in words and card.memory_gb >= least), None)


def cards() -> list[Card]:
    """The cards that `CUDA_VISIBLE_DEVICES` leaves visible, in its order; none where there is no driver.

    Raises `NotAsked` where NVML fails although there is a driver, and where the setting names no card that it knows.
    """
    try:
        import pynvml  # type: ignore[import-untyped]
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return []
    except pynvml.NVMLError as error:
        raise NotAsked(f"an NVIDIA driver is here, but could not be asked for cards: {error}") from error
    try:
        return _visible_cards(pynvml, os.environ.get("CUDA_VISIBLE_DEVICES"))
    except pynvml.NVMLError as error:
        raise NotAsked(f"an NVIDIA card may be here, but the driver could not be asked: {error}") from error
    finally:
        pynvml.nvmlShutdown()


def visible(uuids: Sequence[str], setting: str | None, whole: int | None = None) -> list[int]:
    """Indices of the cards that a `CUDA_VISIBLE_DEVICES` setting names, as CUDA reads it: up to the first bad entry.

    The first `whole` (open: all) are whole cards, which can be named by their index too; the others are MIG slices.
    """
    count = len(uuids) if whole is None else whole
    if setting is None:
        return list(range(count))
    picked: list[int] = []
    for entry in (part.strip() for part in setting.split(",")):
        if entry.isdecimal() and int(entry) < count:
            picked.append(int(entry))
        elif entry and (matches := [index for index, uuid in enumerate(uuids) if uuid.startswith(entry)]):
            picked.append(matches[0])
        else:
            break
    return picked


def _visible_cards(nvml: Any, setting: str | None) -> list[Card]:
    """The visible cards and slices. Of a card that is cut into slices, CUDA takes the first one."""
    whole = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    slices = [_slices(nvml, handle) for handle in whole]
    parts = [(card, part) for card, found in zip(whole, slices, strict=True) for part in found or ()]
    uuids = [nvml.nvmlDeviceGetUUID(handle) for handle in [*whole, *(part for _, part in parts)]]
    picked = visible(uuids, setting, len(whole))
    if whole and not picked and setting and setting.strip() != "-1":
        raise NotAsked(f"CUDA_VISIBLE_DEVICES={setting} names none of the cards that the driver tells of")
    found = []
    for index in picked:
        card, part = parts[index - len(whole)] if index >= len(whole) else (whole[index], None)
        own = slices[index] if index < len(whole) else None
        if own is not None:
            if not own:
                raise NotAsked(f"{nvml.nvmlDeviceGetName(card)} is in MIG mode and has no slice to run on")
            part = own[0]
        found.append(
            Card(
                name=nvml.nvmlDeviceGetName(card),
                memory_gb=nvml.nvmlDeviceGetMemoryInfo(part or card).total / GB,
                capability=tuple(nvml.nvmlDeviceGetCudaComputeCapability(card)),
                slice=part is not None,
            )
        )
    return found


def _slices(nvml: Any, card: Any) -> list[Any] | None:
    """The MIG slices of a card; None where it is whole."""
    try:
        if nvml.nvmlDeviceGetMigMode(card)[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return None
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
        return None  # most cards know no MIG
    found = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(card)):
        try:
            found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(card, index))
        except nvml.NVMLError_NotFound:
            continue
    return found
