"""A run with its micro-batch and checkpointing settled, or a refusal that names what would fit."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from sft_runner.config.choices import choices
from sft_runner.config.run import Decision, Run
from sft_runner.config.schema import Config, Model
from sft_runner.cost.fitting import (
    MARGIN,
    SHORTEST,
    Fitted,
    least,
    modes_of,
    room,
    sizes_of,
    solve,
    with_hardware,
)
from sft_runner.cost.parameters import parameters
from sft_runner.cost.precision import trains_all
from sft_runner.cost.scoring import scoring_memory, sizes
from sft_runner.cost.table import parts_of
from sft_runner.cost.trial import tried
from sft_runner.errors import UserError
from sft_runner.hardware import GB
from sft_runner.model.architecture import Architecture, architecture


def settled(run: Run, arch: Architecture | None) -> tuple[Run, Fitted | None]:
    """The run with its micro-batch and checkpointing filled in. Raises `UserError` with what would fit."""
    config, hardware = run.config, run.config.hardware
    found = solve(config, arch) if arch else None
    if arch and found is None:
        if hardware.memory_gb > 0:
            raise refusal(run, arch)
        found = least(config, arch)  # a machine can move memory to its disk; the plan warns
    if found:
        micro_batch, mode = found.micro_batch, found.checkpointing
        reason = f"≈ {found.memory.total / GB:.1f} GB"
    else:  # nothing is known of such a model, so the way that takes the least
        micro_batch = sizes_of(config)[0] if hardware.per_device_train_batch_size else 1
        mode, reason = modes_of(config, arch)[-1], "its memory is not known"
    decided = []
    if hardware.per_device_train_batch_size is None:
        decided.append(Decision("hardware.per_device_train_batch_size", micro_batch, f"the most that fit, {reason}"))
    elif micro_batch < sizes_of(config)[0]:
        why = f"{hardware.per_device_train_batch_size} do not fit, {reason}"
        decided.append(Decision("hardware.per_device_train_batch_size", micro_batch, why))
    if hardware.activation_checkpointing == "auto":
        decided.append(Decision("hardware.activation_checkpointing", mode, _why(mode, reason)))
    return _with(run, decided, per_device_train_batch_size=micro_batch, activation_checkpointing=mode), found


def scored(run: Run, arch: Architecture) -> tuple[Run, int]:
    """The run with as many rows scored at once as fit, at most `hardware.per_device_eval_batch_size`, and the bytes
    that these take. What is scored does not depend on it, so one row is never refused."""
    config, asked = run.config, run.config.hardware.per_device_eval_batch_size
    allowed = room(config) * (1 - MARGIN)
    needed = {size: scoring_memory(config, arch, size) for size in sizes(asked)}
    size = next((size for size, memory in needed.items() if memory <= allowed), 1)
    if size == asked:
        return run, needed[size]
    reason = f"{asked} rows scored at once would take ≈ {needed[asked] / GB:.1f} GB, {size} ≈ {needed[size] / GB:.1f}"
    decided = [Decision("hardware.per_device_eval_batch_size", size, reason)]
    return _with(run, decided, per_device_eval_batch_size=size), needed[size]


def refusal(run: Run, arch: Architecture) -> UserError:
    """Why nothing fits, and what would."""
    config = run.config
    needed = least(config, arch)
    what = f"{config.model.name} does not fit hardware={config.hardware.name}"
    has = f"{config.hardware.memory_gb:g} GB, of which {MARGIN:.0%} are kept free"
    message = (
        f"{what}: ≈ {needed.memory.total / GB:.1f} GB at the least ({parts_of(needed.memory)}), the card has {has}"
    )
    options = [f"  {words:<64}  from ≈ {size / GB:.1f} GB" for words, size in alternatives(run, arch)]
    hint = "what would fit:\n  " + "\n  ".join(options) if options else "choose a smaller model or a larger card"
    return UserError(message, hint)


def alternatives(run: Run, arch: Architecture) -> list[tuple[str, int]]:
    """Words behind the command that make it fit, each with the bytes it then takes at the least: the least change of
    each kind, and where no single change is enough the least of several together."""
    config = run.config
    kinds = _single(config)
    found = [option for kind in kinds if (option := _first(run, arch, kind))]
    if not found and (option := _first(run, arch, _together(kinds))):
        found = [option]
    others = [*_methods(config), _smaller_models(arch), _larger_cards(config)]
    return found + [option for kind in others if (option := _first(run, arch, kind))]


def _first(run: Run, arch: Architecture, kind: Iterable[str]) -> tuple[str, int] | None:
    """The first words of a kind with which the command can be planned."""
    for words in kind:
        config = tried(run, words)
        shape = architecture(config.model) if config and "model=" in words else arch
        if config and shape and solve(config, shape):
            return words, least(config, shape).memory.total
    return None


def _single(config: Config) -> list[list[str]]:
    """Changes of one thing, of each kind the smallest first."""
    hardware, lora = config.hardware, config.lora
    kinds: list[list[str]] = []
    if trains_all(config):
        kinds.append(["hardware.optim=paged_adamw_8bit"])
        kinds.append(["hardware.trained_dtype=bfloat16"] if hardware.dtype == "bfloat16" else [])
    else:
        kinds.append(["quantization.bits=4"] if config.quantization.bits != "4" else [])
    if hardware.activation_checkpointing not in ("auto", "full"):
        kinds.append(["hardware.activation_checkpointing=full"])
    kinds.append(["lora.use_dora=false"] if not trains_all(config) and lora.use_dora else [])
    lengths = (config.data.max_length // 2**step for step in (1, 2, 3))
    kinds.append([f"data.max_length={length}" for length in lengths if length >= SHORTEST])
    return [kind for kind in kinds if kind]


def _together(kinds: list[list[str]]) -> Iterator[str]:
    """The changes of all kinds, one after the other, added up."""
    words: list[str] = []
    for kind in kinds:
        for word in kind:
            words = [other for other in words if other.partition("=")[0] != word.partition("=")[0]] + [word]
            yield " ".join(words)


def _methods(config: Config) -> list[list[str]]:
    """Adapters in place of the whole model."""
    if not trains_all(config):
        return []
    return [[f"method=lora quantization.bits={bits}" for bits in ("none", "8")], ["method=qlora"]]


def _smaller_models(arch: Architecture) -> Iterator[str]:
    """The shipped models of the same family, the largest first."""
    sizes: dict[str, int] = {}
    for name, values in choices("model").items():
        with suppress(UserError):  # a user's own file that names no model
            shape = architecture(Model(**values))
            if shape and shape.model_type == arch.model_type:
                sizes[name] = parameters(shape).total
    smaller = [name for name, size in sizes.items() if size < parameters(arch).total]
    yield from (f"model={name}" for name in sorted(smaller, key=sizes.__getitem__, reverse=True))


def _larger_cards(config: Config) -> Iterator[str]:
    """The presets with more memory, the smallest first."""
    cards = {name: float(values.get("memory_gb") or 0) for name, values in choices("hardware").items()}
    larger = [name for name, size in cards.items() if size > config.hardware.memory_gb]
    yield from (f"hardware={name}" for name in sorted(larger, key=cards.__getitem__))


def _why(mode: str, reason: str) -> str:
    return f"the least that fits, {reason}" if mode != "none" else "everything fits without"


def _with(run: Run, decided: list[Decision], **values: Any) -> Run:
    """The run with settled hardware and the decisions that led to it."""
    return replace(run, config=with_hardware(run.config, **values), decisions=(*run.decisions, *decided))
