"""What a plan says below its table: rows and steps, memory, disk, time and price, what was filled in, what to doubt."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sft_runner.config.run import Run
from sft_runner.config.schema import Config
from sft_runner.cost import table
from sft_runner.cost.disk import Disk, disk, free, same_disk
from sft_runner.cost.duration import Estimate, stage_time, training_time
from sft_runner.cost.fitting import Fitted
from sft_runner.cost.volume import Volume, volume
from sft_runner.data import sets
from sft_runner.evaluation import gates
from sft_runner.hardware import fit
from sft_runner.method import number
from sft_runner.model.architecture import Architecture, unquantised
from sft_runner.model.files import hub_cache, locate

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
    scoring: int | None = None
    """Bytes that scoring takes; None where nothing is scored or the shape is not known."""

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
    config = run.config
    amount = volume(config, known.prepared)
    told = [
        f"base: {_base(config)}",
        f"rows: up to {config.data.max_length:,} tokens{amount or ''}",
        *(_scored(config, known) if any(step.stage == "baseline" for step in known.steps) else ()),
        f"batch: {_batch(config)}",
        *_cost(config, known, amount),
    ]
    titles = {False: "filled in", True: "approximations, they change what is learned"}
    for approximates, title in titles.items():
        chosen = [decision for decision in run.decisions if decision.approximates is approximates]
        told.append(f"{title}:" if chosen else f"{title}: none")
        told += [f"  {f'{d.key}={_text(d.value)}':<42}  {d.reason}" for d in chosen]
    return told


def warnings(run: Run, known: Known) -> list[str]:
    """What may go wrong although it can run."""
    if known.arch is None:
        return []
    coarse = unquantised(run.config, known.arch) if known.trains else None
    return [
        *([coarse] if coarse else []),
        *table.warnings(run.config, known.fitted, known.scoring, _disk(run.config, known), free(known.store.root)),
    ]


def _cost(config: Config, known: Known, amount: Volume | None) -> Iterator[str]:
    """Memory, disk, time and price of what is still to run."""
    if known.trains and known.fitted is None:
        yield table.UNKNOWN if known.arch is None else "memory: not known"
    elif known.fitted and config.dry_run:
        yield from table.memory_table(config, known.fitted)
    elif known.fitted:
        yield table.memory_line(config, known.fitted)
    if needed := _disk(config, known):
        yield table.disk_line(needed, free(known.store.root))
    times = {step.stage: _time(config, known, amount, step) for step in known.steps if step.action != "cached"}
    if times:
        yield table.time_line(config, times, _awaited(config, known, amount))


def _disk(config: Config, known: Known) -> Disk | None:
    """What will be written on the disk of the run, where the shape is known."""
    if not known.trains or known.arch is None:
        return None
    fetches = locate(config.model).folder is None and same_disk(hub_cache(), known.store.root)
    stages = {step.stage for step in known.steps}
    return disk(config, known.arch, "merge" in stages, fetches, "export" in stages)


def _time(config: Config, known: Known, amount: Volume | None, step: "Step") -> Estimate | None:
    """How long a stage takes."""
    if step.stage != "train":
        return stage_time(config, vars(step.ingredients), known.store.manifests(step.stage))
    found = _training_time(config, known, amount.total) if amount else None
    if found and config.train.max_hours is not None:
        found = replace(found, seconds=min(found.seconds, config.train.max_hours * 3600))
    return replace(found, bound=amount.bound) if found and amount else None


def _awaited(config: Config, known: Known, amount: Volume | None) -> str:
    """What must be there before training can be timed; empty where that is no question of waiting."""
    if not known.trains:
        return ""
    if known.arch is None:
        return "the model is here"
    return "the rows are prepared" if amount is None and _training_time(config, known, tokens=1) else ""


def _training_time(config: Config, known: Known, tokens: float) -> Estimate | None:
    """How long it takes to train on so many tokens."""
    if known.arch is None:
        return None
    mode = known.fitted.checkpointing if known.fitted else "none"
    return training_time(config, known.arch, mode, tokens, known.store.manifests("train"))


def _batch(config: Config) -> str:
    """How the rows of a step are fed to the machine."""
    mode = config.hardware.activation_checkpointing
    checkpointing = f", {mode} activation checkpointing" if mode in ("selective", "full") else ""
    size, most = config.train.batch_size, config.hardware.per_device_train_batch_size
    passes = "" if most is None else f" {table.passes(config, fit(size, most).micro_batch)}"  # None: not settled yet
    return f"{size:,} rows a step{passes}{checkpointing}"


def _scored(config: Config, known: Known) -> Iterator[str]:
    """What is scored besides the held-out rows, what the scores must reach, and what those that are there miss."""
    yield from sets.told(config)
    wanted = [f"{gate.name} {_limits(gate)}" for gate in gates.gates_of(config)]
    made = {step.stage: step.manifest for step in known.steps if step.action == "cached" and step.manifest}
    missed = gates.failed(gates.judge(config, made))
    if wanted:
        yield f"gates: {', '.join(wanted)}"
    if missed:
        yield f"not fit to serve: {', '.join(map(str, missed))}"


def _limits(gate: gates.Gate) -> str:
    told = [f"{limit} {wanted:g}" for limit, wanted in gate.limits.items()]
    return " ".join([*told, "for sure"] if gate.sure else told)


def _base(config: Config) -> str:
    if config.adapter == "none":
        return f"all weights train, in {config.hardware.trained_dtype}, arithmetic in {config.hardware.dtype}"
    bits = config.quantization.bits
    return f"{'not quantised' if bits == 'none' else f'{bits}-bit'}, {config.hardware.dtype}"


def _text(value: Any) -> str:
    """A value in short; of many names the first."""
    if isinstance(value, list):
        more = f" and {len(value) - 2} more" if len(value) > 3 else ""
        return f"[{', '.join(map(str, value[:2] if more else value))}{more}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return number(value) if 0 < value < 1e-2 else f"{value:g}"  # a learning rate
    return str(value)
