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
        f"batch: {_batch(config)}",
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
        yield table.time_line(config, times, _awaited(config, known))


def _disk(config: Config, known: Known) -> Disk | None:
    """What will be written, where the shape is known."""
    if not known.trains or known.arch is None:
        return None
    return disk(config, known.arch, any(step.stage == "merge" for step in known.steps))


def _time(config: Config, known: Known, stage: str) -> Estimate | None:
    """How long a stage takes."""
    if stage != "train":
        return stage_time(known.store.manifests(stage))
    found = _training_time(config, known, _tokens(config, known.prepared)) if known.prepared else None
    if found and config.train.max_hours is not None:
        return replace(found, seconds=min(found.seconds, config.train.max_hours * 3600))
    return found


def _awaited(config: Config, known: Known) -> str:
    """What must be there before training can be timed; empty where that is no question of waiting."""
    if not known.trains:
        return ""
    if known.arch is None:
        return "the model is here"
    return "the rows are prepared" if known.prepared is None and _training_time(config, known, tokens=1) else ""


def _training_time(config: Config, known: Known, tokens: float) -> Estimate | None:
    """How long it takes to train on so many tokens."""
    if known.arch is None:
        return None
    mode = known.fitted.checkpointing if known.fitted else "none"
    return training_time(config, known.arch, mode, tokens, known.store.manifests("train"))


def _tokens(config: Config, numbers: Mapping[str, Any]) -> float:
    """Tokens that training reads, all epochs together."""
    epochs = _steps(config.train, _rows(numbers)) / _steps_of_epoch(config.train, _rows(numbers))
    return float(epochs * numbers["tokens"]["train"])


def _learned(config: Config, numbers: Mapping[str, Any] | None) -> str:
    """Rows, tokens and steps of the training, once they are known."""
    if numbers is None:
        return ""
    rows, tokens = _rows(numbers), numbers["tokens"]["train"]
    return f"; {rows:,} to learn from, {tokens:,} tokens; {_steps(config.train, rows):,} steps"


def _batch(config: Config) -> str:
    """How the rows of a step are fed to the machine."""
    mode = config.hardware.activation_checkpointing
    checkpointing = f", {mode} activation checkpointing" if mode in ("selective", "full") else ""
    size, most = config.train.batch_size, config.hardware.per_device_train_batch_size
    passes = "" if most is None else f" {table.passes(config, fit(size, most).micro_batch)}"  # None: not settled yet
    return f"{size} rows a step{passes}{checkpointing}"


def _rows(numbers: Mapping[str, Any]) -> int:
    """Rows of an epoch, each as often as it is learned."""
    return int(numbers["packing"]["rows"])


def _steps(train: Train, rows: int) -> int:
    """Optimizer steps: as transformers counts them."""
    if train.max_steps > 0:
        return train.max_steps
    return math.ceil(train.num_train_epochs * _steps_of_epoch(train, rows))


def _steps_of_epoch(train: Train, rows: int) -> int:
    return math.ceil(rows / train.batch_size)


def _base(config: Config) -> str:
    if config.adapter == "none":
        return f"all weights train, in {config.hardware.trained_dtype}, arithmetic in {config.hardware.dtype}"
    bits = config.quantization.bits
    return f"{'not quantised' if bits == 'none' else f'{bits}-bit'}, {config.hardware.dtype}"


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
