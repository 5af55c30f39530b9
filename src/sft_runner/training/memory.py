"""What is done when memory runs out: the rows of a step in smaller pieces, then fewer activations kept.

No rung of this ladder changes what is learned: each step has the same rows, and its loss is the mean over their tokens.
What a model computes for each pass by itself depends on the pieces: dropout, and the loss that balances experts.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sft_runner.config.schema import MODES, Config
from sft_runner.hardware import GB, fit
from sft_runner.model.memory import first_line, ran_out

if TYPE_CHECKING:
    from sft_runner.stages.stage import Report
    from sft_runner.training.attempts import Attempts
    from sft_runner.training.trainer import Trainer


@dataclass(frozen=True)
class Rung:
    """How a step is fed to the machine, as far as it decides on memory."""

    micro_batch: int
    """Most rows of full length in one forward and backward pass."""
    activation_checkpointing: str
    """One of `MODES`."""
    eval_batch: int = 0
    """Held-out rows that are scored at once in a look."""

    def lower(self, size: int, largest: Callable[[int], int] = int) -> "Rung | None":
        """The next rung for steps of `size` rows, or None at the end.

        At least half the micro-batch, and so little that the largest pass becomes smaller; where no micro-batch does
        that, 1 and more checkpointing. `largest` gives the positions of the largest pass for a micro-batch.
        """
        rows = self.micro_batch
        while rows > 1:
            rows = fit(size, rows // 2).micro_batch
            if largest(rows) < largest(self.micro_batch):
                return replace(self, micro_batch=rows)
        level = MODES.index(self.activation_checkpointing) + 1
        return replace(self, micro_batch=1, activation_checkpointing=MODES[level]) if level < len(MODES) else None

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
    resumed: int = 0
    """How often the training had been interrupted before."""

    def told(self, size: int) -> str:
        """In words, for steps of `size` rows."""
        if self.left.eval_batch != self.taken.eval_batch:
            return (
                f"out of memory at the held-out rows after step {self.step} with {self.left.eval_batch} at once: "
                f"goes on with {self.taken.eval_batch}"
            )
        return (
            f"out of memory at step {self.step + 1} with {self.left}: "
            f"goes on with {self.taken}, the same {size} rows in a step"
        )


@dataclass(frozen=True)
class Ladder:
    """Where a training stands. Each step down is said, and remembered for the attempts after it."""

    hardware: str
    """The preset."""
    top: Rung
    """Where it begins."""
    size: int
    """Rows of an optimizer step."""
    attempts: "Attempts"
    """Remembers the descents."""
    report: "Report"

    @property
    def rung(self) -> Rung:
        """The present rung."""
        return self.attempts.rung(self.hardware, self.top)

    def descend(self, taken: Rung, step: int, error: str) -> None:
        """Go on with a lower rung after an `error` when `step` optimizer steps were done."""
        resumed = len(self.attempts.resumed)
        descent = Descent(self.hardware, self.top, self.rung, taken, step, error, resumed)
        self.attempts.descents.append(descent)
        self.attempts.write()
        self.report(message=descent.told(self.size))


class OutOfMemory(Exception):
    """Memory ran out while the trainer was at work."""

    def __init__(self, step: int, error: str, largest: Callable[[int], int]) -> None:
        """`largest` gives the positions of the largest pass of that step for a micro-batch."""
        super().__init__(error)
        self.step, self.error, self.largest = step, error, largest


@contextmanager
def watched(trainer: "Trainer", resumed: int = 0) -> Iterator[None]:
    """Turn every way of running out of memory into `OutOfMemory`. `resumed` is the step that training goes on from."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        layout, lengths = trainer.layout, trainer.lengths  # not the trainer, which must go

        def largest(rows: int) -> int:
            return replace(layout, rows=rows).largest(lengths) if lengths else rows

        raise OutOfMemory(max(trainer.state.global_step, resumed), first_line(error), largest) from error


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
