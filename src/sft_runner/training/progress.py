"""How training goes, as the stage reports it while it runs."""

import math
import resource
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft_runner.errors import StageFailed
from sft_runner.hardware import GB
from sft_runner.stages.stage import Report
from sft_runner.training import checkpoints

REPORT_SECONDS = 1.0
"""Progress is told at most this often between two logged steps."""


class Progress(TrainerCallback):
    """Tells how training goes, seals each checkpoint, and stops where the loss is no longer a number."""

    def __init__(self, report: Report, folder: Path, keep: int) -> None:
        self.report, self.folder, self.keep = report, folder, keep
        self.began = self.told = time.perf_counter()
        self.first_step = self.first_token = 0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.began = self.told = time.perf_counter()
        self.first_step, self.first_token = state.global_step, int(state.num_input_tokens_seen)
        self.report(step=state.global_step, steps=state.max_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        last = state.global_step >= state.max_steps
        if last:
            control.should_save = False  # the adapter itself follows at once
        if last or control.should_save:
            control.should_log = True  # so that a resumed run logs over the same steps as an uninterrupted one
        if not control.should_log and time.perf_counter() - self.told > REPORT_SECONDS:
            self._tell(state)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        logs: dict[str, Any] = more["logs"]
        if "loss" not in logs:
            return  # the summary at the end
        for name in ("loss", "grad_norm"):
            value = float(logs.get(name, 0.0))
            skipped = name == "grad_norm" and args.fp16  # loss scaling overflows now and then, and skips that step
            if not math.isfinite(value) and not skipped:
                raise StageFailed(
                    f"the {name} is {value} at step {state.global_step} of {state.max_steps}: training has diverged",
                    "lower train.learning_rate, raise train.warmup_steps, lower train.max_grad_norm, "
                    "or use hardware.dtype=float32",
                )
        shown = {
            name: logs[name] for name in ("loss", "learning_rate", "grad_norm", "mean_token_accuracy") if name in logs
        }
        self._tell(state, **shown)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        checkpoints.seal(self.folder / f"{checkpoints.PREFIX}{state.global_step}")
        checkpoints.rotate(self.folder, self.keep)

    def seconds(self) -> float:
        """Since training began in this process."""
        return time.perf_counter() - self.began

    def tokens_per_second(self, state: TrainerState) -> float:
        """Tokens of real rows, padding left out, in this process."""
        return (state.num_input_tokens_seen - self.first_token) / max(self.seconds(), 1e-9)

    def _tell(self, state: TrainerState, **values: Any) -> None:
        self.told = time.perf_counter()
        done = state.global_step - self.first_step
        self.report(
            step=state.global_step,
            steps=state.max_steps,
            epoch=round(state.epoch or 0.0, 4),
            **values,
            tokens_per_second=round(self.tokens_per_second(state), 1),
            memory_gb=round(peak_memory_gb(), 3),
            seconds_left=round(self.seconds() / max(done, 1) * (state.max_steps - state.global_step), 1),
        )


def peak_memory_gb() -> float:
    """The most that the process has used so far, in GB: of the card where there is one, else of the machine."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return torch.cuda.max_memory_reserved() / GB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GB  # Linux counts in KiB
