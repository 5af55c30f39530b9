"""Every shipped method on every card with every model: what fits, with how much, or why not."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sft_runner.config import conflicts, rules
from sft_runner.config.schema import Config, build
from sft_runner.cost.choices import choices
from sft_runner.cost.fitting import least, solve
from sft_runner.errors import SftError, raise_all
from sft_runner.hardware import GB
from sft_runner.model.architecture import architecture

MARKS = {"none": "", "selective": "s", "full": "f"}
"""How a table marks checkpointing."""


@dataclass(frozen=True)
class Pair:
    """One method on one card with one model."""

    model: str
    hardware: str
    method: str
    fits: bool
    micro_batch: int | None
    """The largest that fits, of 16 rows a step."""
    checkpointing: str | None
    gb: float | None
    """What it takes, or at the least would take; None where that is not known."""
    reason: str
    """In a word why it does not run: `memory`, `conflict`, `model`; empty where it does."""

    def __str__(self) -> str:
        if self.fits:
            return f"{self.micro_batch}{MARKS[self.checkpointing or 'none']} {self.gb:.1f}"
        return f"no, {self.gb:.0f}" if self.gb is not None else self.reason


def survey(models: list[str], hardware: list[str], methods: list[str]) -> Iterator[Pair]:
    """All pairs, by method, model and card; an empty list takes every shipped file of its group."""
    for method in methods or sorted(choices("method")):
        for model in models or sorted(choices("model")):
            for card in hardware or by_memory():
                yield _pair(model, card, method)


def by_memory() -> list[str]:
    """The cards, the smallest first."""
    return sorted(choices("hardware"), key=lambda name: choices("hardware")[name].get("memory_gb", 0))


def table(pairs: list[Pair]) -> Iterator[str]:
    """One block for each method: a line for each model, a column for each card."""
    cards = list(dict.fromkeys(pair.hardware for pair in pairs))
    found = {(pair.method, pair.model, pair.hardware): str(pair) for pair in pairs}
    name = max(len(pair.model) for pair in pairs)
    widths = {card: max(len(card), *(len(text) for key, text in found.items() if key[2] == card)) for card in cards}
    for method in dict.fromkeys(pair.method for pair in pairs):
        yield f"{method:<{name}}  " + "  ".join(f"{card:>{widths[card]}}" for card in cards)
        for model in dict.fromkeys(pair.model for pair in pairs):
            cells = (f"{found[method, model, card]:>{widths[card]}}" for card in cards)
            yield f"{model:<{name}}  {'  '.join(cells)}"
        yield ""
    yield "Micro-batch of 16 rows a step, s or f for selective or full checkpointing, ≈ GB; rows as long as the card's"
    yield "preset allows, up to 2,048 tokens. `no` is followed by the GB that it would take at the least."


def _pair(model: str, hardware: str, method: str) -> Pair:
    """One pair, composed from its three files as Hydra does it."""
    names = (model, hardware, method)
    values: dict[str, Any] = asdict(Config())
    _merge(values, {"model": choices("model")[model], "hardware": choices("hardware")[hardware]})
    _merge(values, choices("method")[method])
    _merge(values, {"data": {"path": "embedded:dates"}})
    try:
        asked = build(Config, values)
        raise_all(list(conflicts.of_values(asked)))
        config, _ = rules.fill(asked, "fits", None)
        raise_all(list(conflicts.between_values(config)))
    except SftError:
        return Pair(*names, False, None, None, None, "conflict")
    arch = architecture(config.model)
    if arch is None:
        return Pair(*names, False, None, None, None, "model")
    if found := solve(config, arch) or (least(config, arch) if config.hardware.memory_gb <= 0 else None):
        return Pair(*names, True, found.micro_batch, found.checkpointing, round(found.memory.total / GB, 1), "")
    return Pair(*names, False, None, None, round(least(config, arch).memory.total / GB, 1), "memory")


def _merge(values: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Lay `other` over `values`, part by part."""
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            values[key] = value
