"""Every shipped method on every card with every model: what fits, with how much, or why not."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sft_runner.config.choices import choices
from sft_runner.config.schema import Config
from sft_runner.cost.fitting import least, solve
from sft_runner.cost.trial import composed, filled
from sft_runner.errors import UserError
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
    """The largest that fits, of the rows of a step."""
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
    known = {group: choices(group) for group in ("hardware", "method", "model")}
    cards = hardware or by_memory()
    for method in methods or sorted(known["method"]):
        for model in models or sorted(known["model"]):
            for card in cards:
                yield _pair(model, card, method, known)


def by_memory() -> list[str]:
    """The cards, the smallest first."""
    cards = choices("hardware")
    return sorted(cards, key=lambda name: cards[name].get("memory_gb", 0))


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
    rows, tokens = Config().train.batch_size, Config().data.max_length
    yield f"Micro-batch of {rows} rows a step, s or f for selective or full checkpointing, ≈ GB; rows as long as the"
    yield f"card's preset allows, up to {tokens:,} tokens. `no` is followed by the GB that it would take at the least."


def _pair(model: str, hardware: str, method: str, known: dict[str, dict[str, dict[str, Any]]]) -> Pair:
    """One pair, composed from its three files as Hydra does it."""
    names = (model, hardware, method)
    values: dict[str, Any] = {"model": known["model"][model], "hardware": known["hardware"][hardware]}
    config = filled(composed({**values, **known["method"][method], "data": {"path": "embedded:dates"}}), "fits")
    if config is None:
        return Pair(*names, False, None, None, None, "conflict")
    try:
        arch = architecture(config.model)
    except UserError:
        arch = None
    if arch is None:
        return Pair(*names, False, None, None, None, "model")
    if found := solve(config, arch) or (least(config, arch) if config.hardware.memory_gb <= 0 else None):
        return Pair(*names, True, found.micro_batch, found.checkpointing, round(found.memory.total / GB, 1), "")
    return Pair(*names, False, None, None, round(least(config, arch).memory.total / GB, 1), "memory")
