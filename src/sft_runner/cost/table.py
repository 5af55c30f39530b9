"""What a run costs as lines of text, for the plan. Everything that is estimated is marked with ≈."""

from collections.abc import Iterator, Mapping
from dataclasses import fields

from sft_runner.config.schema import Config
from sft_runner.cost import duration
from sft_runner.cost.disk import Disk
from sft_runner.cost.duration import Estimate
from sft_runner.cost.fitting import Fitted, room
from sft_runner.cost.memory import Memory
from sft_runner.hardware import GB

UNKNOWN = "memory: not known until the model is here"
_LABELS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer states",
    "activations": "activations",
    "logits": "output head and loss",
    "overhead": "CUDA, workspace, fragments",
}


def memory_line(config: Config, fitted: Fitted) -> str:
    """Memory in one line."""
    rows = f"rows of {config.data.max_length:,} tokens"
    return f"memory: ≈ {fitted.memory.total / GB:.1f} of {_room(config)} for {rows}: {parts_of(fitted.memory)}"


def parts_of(memory: Memory) -> str:
    """The parts that are large enough to count."""
    counted = {name: size for name, size in vars(memory).items() if size >= 0.05 * GB}
    return ", ".join(f"{name} {size / GB:.1f}" for name, size in counted.items())


def memory_table(config: Config, fitted: Fitted) -> Iterator[str]:
    """Memory part by part, with what the first line counts on."""
    memory = fitted.memory
    rows = f"{fitted.micro_batch} x {config.data.max_length:,} tokens, checkpointing {fitted.checkpointing}"
    yield f"memory while training, ≈ GB ({rows}):"
    for item in fields(memory):
        label = _LABELS[item.name] if config.hardware.memory_gb > 0 or item.name != "overhead" else "Python, workspace"
        yield f"  {label:<28}{getattr(memory, item.name) / GB:>8.2f}"
    yield f"  {'together':<28}{memory.total / GB:>8.2f}  of {_room(config)}"


def passes(config: Config, micro_batch: int) -> str:
    """How the rows of a step go through the model, to stand behind their number."""
    if not config.train.packing:
        return f"= micro-batch {micro_batch} x accumulation {config.train.batch_size // micro_batch}"
    flat = "flash" in (config.hardware.attn_implementation or "")
    together = "without padding" if flat else "rows of similar length together"
    return f"in passes of up to {micro_batch} x {config.data.max_length:,} tokens, {together}"


def disk_line(needed: Disk, free: int) -> str:
    """Disk in one line."""
    told = ", ".join(f"{name} {_size(size)}" for name, size in vars(needed).items() if size)
    return f"disk: ≈ {_size(needed.most)} at once ({told}); {_size(free)} free"


def time_line(config: Config, stages: Mapping[str, Estimate | None], awaited: str = "") -> str:
    """Time by stage, and the price where `hardware.price_per_hour` is set and training's time is known.

    `awaited` is what must be there before training can be timed, such as `the rows are prepared`.
    """
    known = {name: estimate for name, estimate in stages.items() if estimate}
    late = f"known once {awaited}" if awaited else "not known"
    if not known:
        return f"time: {late}" if awaited else "time: not known: nothing like it has run on this machine yet"
    parts = [f"{name} {duration.told(one.seconds)}{_mark(one)}" for name, one in known.items()]
    parts += [f"{name} {late if name == 'train' else 'not known'}" for name in stages if name not in known]
    total = sum(estimate.seconds for estimate in known.values())
    line = f"time: ≈ {duration.told(total)}: {', '.join(parts)}"
    if config.hardware.price_per_hour is None or ("train" in stages and "train" not in known):
        return line
    price = total / 3600 * config.hardware.price_per_hour
    told = f"≈ {price:.2f}" if price >= 0.01 else "< 0.01"
    bound = any(estimate.bound for estimate in known.values())
    return f"{line}; price {'up to ' if bound else '' if len(known) == len(stages) else 'at least '}{told}"


def _mark(estimate: Estimate) -> str:
    """What kind of estimate it is, to stand behind it."""
    words = [*(["at most"] if estimate.bound else []), *([] if estimate.measured else ["rough"])]
    return f" ({', '.join(words)})" if words else ""


def warnings(
    config: Config, fitted: Fitted | None, scoring: int | None, needed: Disk | None, free: int
) -> Iterator[str]:
    """What may not suffice although nothing is refused. `scoring` are the bytes of scoring."""
    has = f"{'the card' if config.hardware.memory_gb > 0 else 'this machine'} has {room(config) / GB:.1f} GB"
    if fitted and config.hardware.memory_gb <= 0 and fitted.memory.total > room(config):
        yield f"training takes ≈ {fitted.memory.total / GB:.1f} GB, {has}"
    if scoring and scoring > room(config):
        rows = config.hardware.per_device_eval_batch_size
        yield f"scoring takes ≈ {scoring / GB:.1f} GB for {rows} row{'s' if rows > 1 else ''} at once, {has}"
    if needed and needed.most > free:
        yield f"the run writes ≈ {_size(needed.most)}, and {_size(free)} are free on the disk"


def _room(config: Config) -> str:
    return f"{room(config) / GB:.1f} GB{'' if config.hardware.memory_gb > 0 else ' of this machine'}"


def _size(size: float) -> str:
    return f"{size / GB:.1f} GB" if size >= 0.95e8 else f"{size / 1e6:.1f} MB"
