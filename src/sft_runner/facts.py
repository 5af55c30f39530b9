"""What a plan says below its table: rows and steps, memory, disk, time and price, what was filled in, what to doubt."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sft_runner.config.run import Run
from sft_runner.config.schema import Config, Train
from sft_runner.cost import table
from sft_runner.cost.disk import Disk, disk, free
from sft_runner.cost.duration import Estimate, stage_time, training_time
from sft_runner.cost.fitting import Fitted
from sft_runner.data.packing import packs_per_step
from sft_runner.hardware import fit
from sft_runner.model.architecture import Architecture, unquantised

if TYPE_CHECKING:
    from sft_runner.planning import Step
    from sft_runner.store import Store


@dataclass(frozen=True)
class Known:
    """What the lines are made from, besides the run itself."""

    store: "Store"
    """Where earlier stages are."""
    steps: "tuple[Step, ...]"
    """The stages of the plan."""
    arch: Architecture | None
    """The model's shape; None where nothing here tells it."""
    fitted: Fitted | None
    """How training fits the machine; None where it is cached or the shape is not known."""

    @property
    def prepared(self) -> Mapping[str, Any] | None:
        """The metrics of the prepared rows, where they are there already."""
        manifest = self.steps[0].manifest
        return manifest["metrics"] if manifest else None

    @property
    def trains(self) -> bool:
        """Whether training is still to come."""
        return any(step.stage == "train" and step.action != "cached" for step in self.steps)


def facts(run: Run, known: Known) -> list[str]:
    """The lines. A dry run shows memory part by part, any other plan in one line."""
    config, numbers = run.config, known.prepared
    told = [
        f"base: {_base(config)}",
        f"rows: up to {config.data.max_length:,} tokens{_learned(config, numbers)}",
        f"batch: {_batch(config, numbers)}",
        *_cost(config, known),
    ]
    titles = {False: "filled in", True: "approximations of the preset, they change what is learned"}
    for approximates, title in titles.items():
        chosen = [decision for decision in run.decisions if decision.approximates is approximates]
        told.append(f"{title}:" if chosen else f"{title}: none")
        told += [f"  {d.key}={_text(d.value)}".ljust(44) + f"  {d.reason}" for d in chosen]
    return told


def warnings(run: Run, known: Known) -> list[str]:
    """What may go wrong although it can run."""
    if not known.trains or known.arch is None:
        return []
    coarse = unquantised(run.config, known.arch)
    return [
        *([coarse] if coarse else []),
        *table.warnings(run.config, known.fitted, _disk(run.config, known), free(known.store.root)),
    ]


def _cost(config: Config, known: Known) -> Iterator[str]:
    """Memory, disk, time and price of what is still to run."""
    if known.trains and known.fitted is None:
        yield table.UNKNOWN if known.arch is None else "memory: not known"
    elif known.fitted and config.dry_run:
        yield from table.memory_table(config, known.fitted)
    elif known.fitted:
        yield table.memory_line(config, known.fitted)
    if needed := _disk(config, known):
        yield table.disk_line(needed, free(known.store.root))
    times = {step.stage: _time(config, known, step.stage) for step in known.steps if step.action != "cached"}
    if times:
        yield table.time_line(config, times)


def _disk(config: Config, known: Known) -> Disk | None:
    """What will be written, where the shape is known."""
    if not known.trains or known.arch is None:
        return None
    return disk(config, known.arch, any(step.stage == "merge" for step in known.steps))


def _time(config: Config, known: Known, stage: str) -> Estimate | None:
    """How long a stage takes."""
    earlier = known.store.manifests(stage)
    if stage != "train":
        return stage_time(earlier)
    if known.arch is None or known.prepared is None:
        return None
    mode = known.fitted.checkpointing if known.fitted else "none"
    found = training_time(config, known.arch, mode, _tokens(config, known.prepared), earlier)
    if found and config.train.max_hours is not None:
        return replace(found, seconds=min(found.seconds, config.train.max_hours * 3600))
    return found


def _tokens(config: Config, numbers: Mapping[str, Any]) -> float:
    """Tokens that training reads, all epochs together."""
    units, size = _units(config, numbers)
    return float(_steps(config.train, units, size) * size * numbers["tokens"]["train"] / max(units, 1))


def _learned(config: Config, numbers: Mapping[str, Any] | None) -> str:
    """Rows, tokens and steps of the training, once they are known."""
    if numbers is None:
        return ""
    rows, tokens = numbers["packing"]["rows"], numbers["tokens"]["train"]
    return f"; {rows:,} to learn from, {tokens:,} tokens; {_steps(config.train, *_units(config, numbers)):,} steps"


def _batch(config: Config, numbers: Mapping[str, Any] | None) -> str:
    """How the rows of a step are fed to the machine."""
    hardware, size = config.hardware, config.train.batch_size
    mode = hardware.activation_checkpointing
    checkpointing = f", {mode} activation checkpointing" if mode in ("selective", "full") else ""
    if not config.train.packing:
        return f"{size} rows a step{_solved(config, size)}{checkpointing}"
    if numbers is None:
        return f"about {size} rows a step, packed into rows of {config.data.max_length:,} tokens{checkpointing}"
    packs, found = _packs(config, numbers), numbers["packing"]
    rows = packs * found["rows"] / found["packs"]
    tokens = packs * numbers["tokens"]["train"] / found["packs"]
    text = f"{rows:.1f} rows and {tokens:,.0f} tokens a step in {packs} packs, {found['efficiency']:.1%} full"
    text += f"{_solved(config, packs)}{checkpointing}"
    if not 0.8 <= rows / size <= 1.25:
        text += f"; train.batch_size={size} asks for {size}: a smaller data.max_length comes nearer"
    return text


def _solved(config: Config, size: int) -> str:
    """Micro-batch and accumulation, once they are settled."""
    if config.hardware.per_device_train_batch_size is None:
        return ""
    batch = fit(size, config.hardware.per_device_train_batch_size)
    return f" = micro-batch {batch.micro_batch} x accumulation {batch.accumulation}"


def _units(config: Config, numbers: Mapping[str, Any]) -> tuple[int, int]:
    """Rows of an epoch and of a step, or packs."""
    if config.train.packing:
        return numbers["packing"]["packs"], _packs(config, numbers)
    return numbers["packing"]["rows"], config.train.batch_size


def _packs(config: Config, numbers: Mapping[str, Any]) -> int:
    """Packs in a step."""
    return packs_per_step(numbers["packing"]["rows"], numbers["packing"]["packs"], config.train.batch_size)


def _steps(train: Train, units: int, size: int) -> int:
    """Optimizer steps: as transformers counts them."""
    if train.max_steps > 0:
        return train.max_steps
    return math.ceil(train.num_train_epochs * math.ceil(units / size))


def _base(config: Config) -> str:
    if config.adapter == "none":
        return f"all weights train, in {config.hardware.trained_dtype}, arithmetic in {config.hardware.dtype}"
    bits = config.quantization.bits
    return f"{'not quantised' if bits == 'none' else f'{bits}-bit'}, {config.hardware.dtype}"


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
