"""What is done when memory runs out: the rows of a step in smaller pieces, then fewer activations kept.

No rung of this ladder changes what is learned: each step has the same rows, and its loss is the mean over their tokens.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sft_runner.config.schema import Config
from sft_runner.hardware import GB, fit

if TYPE_CHECKING:
    from sft_runner.training.trainer import Trainer

LEVELS = ("none", "selective", "full")
"""Activation checkpointing, from the fastest to the one that takes the least memory."""
SIGNS = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What errors say that have no class of their own: CUDA's runtime, torch's allocator on the CPU, cuBLAS."""


@dataclass(frozen=True)
class Rung:
    """How a step is fed to the machine, as far as it decides on memory."""

    micro_batch: int
    """Most rows of full length in one forward and backward pass."""
    activation_checkpointing: str
    """One of `LEVELS`."""

    def lower(self, size: int) -> "Rung | None":
        """The next rung for steps of `size` rows: half the micro-batch, at 1 more checkpointing; None at the end."""
        if self.micro_batch > 1:
            return replace(self, micro_batch=fit(size, self.micro_batch // 2).micro_batch)
        level = LEVELS.index(self.activation_checkpointing) + 1
        return replace(self, activation_checkpointing=LEVELS[level]) if level < len(LEVELS) else None

    def __str__(self) -> str:
        text = f"micro-batch {self.micro_batch}"
        if self.activation_checkpointing == "none":
            return text
        return f"{text} and {self.activation_checkpointing} activation checkpointing"


@dataclass(frozen=True)
class Descent:
    """One step down the ladder."""

    hardware: str
    """The preset for which the ladder began, and..."""
    top: Rung
    """...where: with another one the lesson does not hold."""
    left: Rung
    """The rung on which memory ran out."""
    taken: Rung
    """The next one."""
    step: int
    """Optimizer steps done when memory ran out."""
    error: str
    """What the allocator said."""

    def told(self, size: int) -> str:
        """In words, for steps of `size` rows."""
        return (
            f"out of memory at step {self.step + 1} with {self.left}: "
            f"goes on with {self.taken}, the same {size} rows in a step"
        )


class OutOfMemory(Exception):
    """Memory ran out while the trainer was at work."""

    def __init__(self, step: int, error: str) -> None:
        super().__init__(error)
        self.step, self.error = step, error


@contextmanager
def watched(trainer: "Trainer") -> Iterator[None]:
    """Turn every way of running out of memory into `OutOfMemory`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        raise OutOfMemory(trainer.state.global_step, first_line(error)) from error


def ran_out(error: BaseException) -> bool:
    """Whether an error means that there was no memory left."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def first_line(error: BaseException) -> str:
    """What an error says, without the pages that some allocators add; Python's own says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def free() -> None:
    """Give back what a trainer that nobody holds any more still takes; its parts refer to each other."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def remedies(config: Config) -> list[str]:
    """Overrides that are left to try, the cheapest for quality first, and what each would save."""
    from sft_runner.cost.fitting import remedies as found
    from sft_runner.model.architecture import architecture

    return [
        override if saved is None else f"{override} (saves about {saved / GB:.1f} GB)"
        for override, saved in found(config, architecture(config.model))
    ]
