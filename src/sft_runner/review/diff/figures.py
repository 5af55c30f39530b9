"""What a plan says of memory, rows, steps, time and disk, as numbers that two sides can be compared by.

What is there already of either side is left aside: prepared rows would make a plan exact that is a bound on the other
side, and a cached stage would make its cost vanish.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from sft_runner.config.run import Run
from sft_runner.config.schema import Config, Data, Train
from sft_runner.cost import duration, settling
from sft_runner.cost.disk import disk
from sft_runner.cost.duration import training_time
from sft_runner.cost.fitting import Fitted
from sft_runner.cost.volume import volume
from sft_runner.errors import UserError
from sft_runner.hardware import GB
from sft_runner.model.architecture import Architecture, architecture
from sft_runner.store import Store

Figures = dict[str, tuple[float, str]]
"""What is counted -> its number (bytes, seconds, rows) and how it is told."""


def figures(run: Run, stages: Collection[str], rows: Callable[[Data], int | None]) -> Figures:
    """The figures of a settled run. `rows` tells at most how many rows there are.

    Raises `UserError` for a model that cannot be used or does not fit.
    """
    config, arch = run.config, architecture(run.config.model)
    found: Figures = {}
    fitted: Fitted | None = None
    if "train" in stages:
        run, fitted = settling.settled(run, arch) if arch else (run, None)
        if fitted:
            found["memory while training"] = _gb(fitted.memory.total)
            found["micro-batch"] = (fitted.micro_batch, str(fitted.micro_batch))
            found["checkpointing"] = (0, fitted.checkpointing)
    if arch and {"baseline", "evaluate"} & {*stages}:
        scored, needed = settling.scored(run, arch)
        at_once = scored.config.hardware.per_device_eval_batch_size
        found["memory while scoring"] = _gb(needed)
        found["rows scored at once"] = (at_once, str(at_once))
    most = rows(config.data)
    if most is not None:
        found["rows"] = (most, f"at most {most:,}")
    steps, tokens = _read(config, most)
    if "train" in stages and steps is not None:
        found["steps"] = (steps, f"{'' if config.train.max_steps > 0 else 'at most '}{steps:,}")
        found |= _time(config, arch, fitted, tokens)
    if "train" in stages and arch:
        needed = disk(config, arch, "merge" in stages, exports="export" in stages).most
        found["disk"] = (needed, f"{needed / GB:.1f} GB" if needed >= 0.95e8 else f"{needed / 1e6:.1f} MB")
    return found


def most_rows(data: Data) -> int | None:
    """At most so many rows; None where that is not quick to tell, or where the data is not here."""
    try:
        found = volume(replace(Config(), data=data, train=replace(Train(), max_steps=1)), None)
    except (UserError, OSError):
        return None
    return found.rows if found else None


def _read(config: Config, most: int | None) -> tuple[int | None, float]:
    """Optimizer steps and tokens of all epochs together, rows at their full length."""
    if most is None and config.train.max_steps <= 0:
        return None, 0
    counted = {"packing": {"rows": most or 1}, "tokens": {"train": (most or 1) * config.data.max_length}}
    found = volume(config, counted)
    assert found
    if config.train.max_steps > 0:
        return found.steps, float(found.steps * config.train.batch_size * config.data.max_length)
    return found.steps, min(found.total, config.train.num_train_epochs * (most or 1) * config.data.max_length)


def _time(config: Config, arch: Architecture | None, fitted: Fitted | None, tokens: float) -> Figures:
    if arch is None or fitted is None:
        return {}
    earlier = trainings(Path(config.output_dir).expanduser().resolve())
    found = training_time(config, arch, fitted.checkpointing, tokens, earlier)
    if found is None:
        return {}
    limit = config.train.max_hours
    seconds = found.seconds if limit is None else min(found.seconds, limit * 3600)
    return {"time of training": (seconds, f"at most {duration.told(seconds)}{'' if found.measured else ' (rough)'}")}


@cache
def trainings(output_dir: Path) -> Sequence[Mapping[str, Any]]:
    """The trainings that ran here: their speed tells how long others take."""
    return Store(output_dir).manifests("train")


def _gb(size: float) -> tuple[float, str]:
    return size, f"≈ {size / GB:.1f} GB"
