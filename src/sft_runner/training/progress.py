"""How training goes, as the stage reports it while it runs."""

import math
import resource
import time
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft_runner.hardware import GB
from sft_runner.stages.stage import Report
from sft_runner.training.looks import PREFIX

REPORT_SECONDS = 1.0
"""Progress is told at most this often between two logged steps."""


class Progress(TrainerCallback):
    """Tells how training goes."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.began = self.told = time.perf_counter()
        self.ended: float | None = None
        self.first_step = self.first_token = 0
        self.looks, self.looks_seconds, self.look_began = 0, 0.0, self.began

    def begin(self, state: TrainerState) -> None:
        """What was done before this process does not count for its speed."""
        self.began = self.told = time.perf_counter()
        self.first_step, self.first_token = state.global_step, int(state.num_input_tokens_seen)
        self.report(step=state.global_step, steps=state.max_steps)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.begin(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not control.should_log and time.perf_counter() - self.told > REPORT_SECONDS:
            self._tell(state)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        logs: dict[str, Any] = more["logs"]
        if f"{PREFIX}loss" in logs:
            self.looks += 1
            self.looks_seconds += time.perf_counter() - self.look_began
        self.look_began = time.perf_counter()  # where one is due, it follows the loss of its step
        names = ("loss", "learning_rate", "grad_norm", "mean_token_accuracy")
        shown = {name: value for name, value in logs.items() if name in names or name.startswith(PREFIX)}
        if "loss" in shown or f"{PREFIX}loss" in shown:  # else it is the summary at the end
            self._tell(state, **shown)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.ended = time.perf_counter()

    def seconds(self) -> float:
        """How long training has taken, or took, in this process, without its looks at held-out rows."""
        return (self.ended or time.perf_counter()) - self.began - self.looks_seconds

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
            seconds_left=round(self._seconds_left(state, done), 1),
        )

    def _seconds_left(self, state: TrainerState, done: int) -> float:
        """Steps and looks to come, each as long as those before."""
        left = state.max_steps - state.global_step
        looks = math.ceil(left / state.eval_steps) if self.looks else 0
        return self.seconds() / max(done, 1) * left + self.looks_seconds / max(self.looks, 1) * looks


def peak_memory_gb() -> float:
    """The most that the process has used so far, in GB: of the card where there is one, else of the machine."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return torch.cuda.max_memory_reserved() / GB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GB  # Linux counts in KiB
