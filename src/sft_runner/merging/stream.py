"""A merge from file to file: each tensor is read, merged and written, and nothing but a few of them is in memory.

The merged model has the base's files with the base's names. What no adapter reaches is copied as bytes. Threads take
one piece after the other, so that reading, calculating and writing overlap.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sft_runner.disk import write_json
from sft_runner.errors import NotFinite, UserError
from sft_runner.merging import arithmetic, companions, loading, shards, whole
from sft_runner.merging.change import Change
from sft_runner.merging.layers import Fitted, Unstreamable, fit
from sft_runner.merging.pieces import Job
from sft_runner.merging.shards import FLOATS, Shard
from sft_runner.merging.tensors import Tensors
from sft_runner.merging.writing import write
from sft_runner.model.weights import INDEX

if TYPE_CHECKING:
    from torch import Tensor


class Rounding(Protocol):
    """How training saw a quantized base."""

    def covers(self, name: str) -> bool:
        """Whether training saw a tensor of the base's files rounded."""

    def round(self, name: str, weight: "Tensor") -> "Tensor":
        """The tensor as training saw it, in its own precision."""


def merge(
    base: Path,
    adapter: Path,
    target: Path,
    rounding: Rounding | None = None,
    report: Callable[..., None] | None = None,
    *,
    device: str = "cpu",
    own_code: bool = False,
) -> Change:
    """Write `target`: the model in `base` with the adapter in its weights, and all else that belongs to it.

    What the stream cannot do PEFT does, with the whole model in memory on `device`; `Change.note` says why. `target`
    comes into being when it is complete. Raises `UserError` for a base that is damaged, not finite or stored quantized,
    `StageFailed` for an adapter that does not fit it, leaves no trace or breaks the weights, and `MachineError`
    where the disk is full.
    """
    start = time.perf_counter()
    loading.refuse_quantized(base)
    with companions.beside(target) as aside, _guilt(base):
        stored = shards.read(base)
        try:
            fitted = fit(base, adapter, (one for shard in stored for one in shard.tensors), own_code)
        except Unstreamable as reason:
            note = f"PEFT merged it, with the whole model in memory: {reason}"
            adapted = loading.load_adapted(base, adapter, device, own_code)
            change = whole.merge(adapted, base, aside, rounding, note, own_code)
        else:
            change = _merge(base, stored, fitted, aside, rounding, report)
            companions.carry(base, aside, own_code)
    return replace(change, seconds=time.perf_counter() - start, bytes=companions.weight_bytes(target))


@contextmanager
def _guilt(base: Path) -> Iterator[None]:
    """Blame the base for merged weights that are not finite where it is not finite itself."""
    try:
        yield
    except NotFinite as error:
        for name, file in Tensors.of(base, "the base").of_files.items():
            value = file.get_tensor(name)
            if value.is_floating_point() and not arithmetic.is_finite(value):
                why = f"model.name: {name} in {base} has values that are no numbers"
                raise UserError(why, "fetch the model again") from error
        raise


def _merge(
    base: Path,
    stored: list[Shard],
    fitted: Fitted,
    target: Path,
    rounding: Rounding | None,
    report: Callable[..., None] | None,
) -> Change:
    """Write weights, index and configuration."""
    jobs = [_job(shard, fitted, target) for shard in stored]
    changed = write(jobs, fitted.edits, rounding, report)
    touched = {fitted.edits[name].module for name in changed}
    modules = {edit.module for edit in fitted.edits.values() if edit.layer} | touched
    sources = {edit.source for edit in fitted.edits.values()}
    types = {one.dtype for shard in stored for one in shard.tensors if one.name in sources}
    dtype = ", ".join(sorted(FLOATS[one] for one in types))
    if fitted.acts and not touched:
        raise arithmetic.traceless(len(modules), dtype)
    if (base / INDEX).is_file():
        if all(job.as_before for job in jobs):
            companions.copy(base / INDEX, target / INDEX)
        else:
            write_json(target / INDEX, shards.index(base, [job.target for job in jobs]))
    companions.carry_settings(base, target, fitted.settings)
    return Change(len(modules), len(touched), dtype, "stream")


def _job(shard: Shard, fitted: Fitted, target: Path) -> Job:
    """What becomes of one file: the same tensors in the same order, and behind them those that are added."""
    sources = {one.name: one for one in shard.tensors}
    added = [name for name, edit in fitted.edits.items() if name not in sources and edit.source in sources]
    tensors = []
    for name in [*sources, *added]:
        edit = fitted.edits.get(name)
        source = sources[edit.source if edit else name]
        shape = source.shape if edit is None or edit.replaced is None else tuple(edit.replaced.shape)
        tensors.append((name, source.dtype, shape))
    path = target / shard.path.name
    if tensors == [(one.name, one.dtype, one.shape) for one in shard.tensors]:
        return Job(shard, Shard(path, shard.tensors, shard.metadata, shard.data), as_before=True)
    return Job(shard, shards.laid_out(path, tensors, shard.metadata), as_before=False)
