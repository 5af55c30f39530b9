"""A run with its micro-batch and checkpointing settled, or a refusal that names what would fit."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sft_runner.config.run import Decision, Run
from sft_runner.config.schema import Config, Hardware, Model
from sft_runner.cost.choices import choices
from sft_runner.cost.fitting import (
    MARGIN,
    SHORTEST,
    Fitted,
    least,
    modes_of,
    single_changes,
    sizes_of,
    solve,
    with_hardware,
)
from sft_runner.cost.parameters import parameters
from sft_runner.cost.precision import trains_all
from sft_runner.cost.table import parts_of
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
        mode, reason = modes_of(config)[-1], "its memory is not known"
    decided = []
    if hardware.per_device_train_batch_size is None:
        decided.append(Decision("hardware.per_device_train_batch_size", micro_batch, f"the most that fit, {reason}"))
    elif micro_batch < sizes_of(config)[0]:
        why = f"{hardware.per_device_train_batch_size} do not fit, {reason}"
        decided.append(Decision("hardware.per_device_train_batch_size", micro_batch, why))
    if hardware.activation_checkpointing == "auto":
        decided.append(Decision("hardware.activation_checkpointing", mode, _why(mode, reason)))
    return _with(run, decided, per_device_train_batch_size=micro_batch, activation_checkpointing=mode), found


def refusal(run: Run, arch: Architecture) -> UserError:
    """Why nothing fits, and what would."""
    config = run.config
    needed = least(config, arch)
    what = f"{config.model.name} does not fit hardware={config.hardware.name}"
    room = f"{config.hardware.memory_gb:g} GB, of which {MARGIN:.0%} are kept free"
    message = (
        f"{what}: ≈ {needed.memory.total / GB:.1f} GB at the least ({parts_of(needed.memory)}), the card has {room}"
    )
    options = [f"  {words:<64}  from ≈ {size / GB:.1f} GB" for words, size in alternatives(config, arch)]
    hint = "what would fit:\n  " + "\n  ".join(options) if options else "choose a smaller model or a larger card"
    return UserError(message, hint)


def alternatives(config: Config, arch: Architecture) -> list[tuple[str, int]]:
    """Command-line words that make it fit, each with the bytes it then takes at the least, the least change first."""
    found: dict[str, int] = {}
    for words, changed in _changes(config):
        if words not in found and solve(changed, arch):
            found[words] = least(changed, arch).memory.total
    return [*found.items(), *_smaller_models(config, arch), *_larger_cards(config, arch)]


def _changes(config: Config) -> Iterator[tuple[str, Config]]:
    """Single changes, then several together, then other methods."""
    yield from single_changes(config)
    capped = config.hardware.activation_checkpointing not in ("auto", "full")
    freed = with_hardware(config, activation_checkpointing="full")
    if capped:
        yield "hardware.activation_checkpointing=full", freed
    if trains_all(config):
        both = with_hardware(freed, trained_dtype="bfloat16", optim="paged_adamw_8bit")
        if config.hardware.dtype == "bfloat16":
            yield "hardware.trained_dtype=bfloat16 hardware.optim=paged_adamw_8bit", both
        adapter = replace(config, adapter="lora", lora=replace(config.lora, r=config.lora.r or 8))
        yield "method=lora quantization.bits=none", adapter
        yield "method=lora quantization.bits=8", replace(adapter, quantization=replace(config.quantization, bits="8"))
        yield "method=qlora", replace(adapter, quantization=replace(config.quantization, bits="4"))
        return
    words = [] if config.quantization.bits == "4" else ["quantization.bits=4"]
    words += ["hardware.activation_checkpointing=full"] if capped else []
    smallest = replace(freed, quantization=replace(config.quantization, bits="4"))
    if config.lora.use_dora:
        yield " ".join([*words, "lora.use_dora=false"]), replace(smallest, lora=replace(config.lora, use_dora=False))
    for length in (config.data.max_length // 2**step for step in (1, 2, 3)):
        if length >= SHORTEST:
            shorter = replace(smallest, data=replace(config.data, max_length=length))
            yield " ".join([*words, f"data.max_length={length}"]), shorter


def _smaller_models(config: Config, arch: Architecture) -> Iterator[tuple[str, int]]:
    """The largest shipped model of the same family that fits."""
    shipped = {name: architecture(Model(**values)) for name, values in choices("model").items()}
    family = {
        name: shape
        for name, shape in shipped.items()
        if shape and shape.model_type == arch.model_type and parameters(shape).total < parameters(arch).total
    }
    for name, shape in sorted(family.items(), key=lambda item: -parameters(item[1]).total):
        if solve(config, shape):
            yield f"model={name}", least(config, shape).memory.total
            return


def _larger_cards(config: Config, arch: Architecture) -> Iterator[tuple[str, int]]:
    """The smallest shipped preset that fits, with the bits that are settled."""
    larger = {name: values for name, values in choices("hardware").items() if values.get("memory_gb", 0) > 0}
    for name, values in sorted(larger.items(), key=lambda item: item[1]["memory_gb"]):
        if values["memory_gb"] > config.hardware.memory_gb:
            changed = replace(config, hardware=Hardware(**values))
            if solve(changed, arch):
                yield f"hardware={name}", least(changed, arch).memory.total
                return


def _why(mode: str, reason: str) -> str:
    return f"the least that fits, {reason}" if mode != "none" else "everything fits without"


def _with(run: Run, decided: list[Decision], **values: Any) -> Run:
    """The run with settled hardware and the decisions that led to it."""
    return replace(run, config=with_hardware(run.config, **values), decisions=(*run.decisions, *decided))
