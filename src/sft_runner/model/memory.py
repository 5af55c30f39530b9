"""Memory that runs out while a model is at work: how that is told from other errors, and what is done about it."""

import gc
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sft_runner.errors import MachineError

if TYPE_CHECKING:
    from sft_runner.stages.stage import Report

SIGNS = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What errors say that have no class of their own: CUDA's runtime, torch's allocator on the CPU, cuBLAS."""


def ran_out(error: BaseException) -> bool:
    """Whether an error means that there was no memory left."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def first_line(error: BaseException) -> str:
    """What an error says, without the pages that some allocators add; Python's own says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def released(model: Any) -> None:
    """Let go of a model's weights, whoever still holds the model; it can do nothing any more."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.new_empty(0)
    free()


def in_batches(
    batches: Iterable[Sequence[int]], work: Callable[[Sequence[int]], None], report: "Report", remedies: str
) -> None:
    """Do `work` on each batch of held-out rows; where memory runs out, on half as many at once from there on.

    Raises `MachineError` with the `remedies` where one row alone does not fit.
    """
    most = 0
    for batch in batches:
        done = 0
        while done < len(batch):
            part = batch[done : done + most] if most else batch
            failure = _failure(work, part)
            if failure is None:
                done += len(part)
                continue
            if len(part) == 1:
                raise MachineError(f"out of memory while scoring held-out rows: {failure}", remedies)
            most = len(part) // 2
            free()
            said = f"out of memory at held-out rows: scores {most} at once"
            report(message=said, per_device_eval_batch_size=most, error=failure)


def free() -> None:
    """Hand back what nobody refers to any more, a card's too."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def _failure(work: Callable[[Sequence[int]], None], part: Sequence[int]) -> str | None:
    """What the allocator said, as text: the error itself would keep the memory of the failed pass."""
    try:
        work(part)
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        return first_line(error)
    return None
