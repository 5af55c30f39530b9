"""When training ends before its last step: no better on held-out rows, out of time, or diverged."""

from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft_runner.config.schema_train import Train
from sft_runner.training.attempts import Attempts
from sft_runner.training.cadence import stretch
from sft_runner.training.divergence import Diverged, Divergence, at_look, divergence
from sft_runner.training.ending import BUDGET, EARLY, STEPS
from sft_runner.training.looks import Entry, evaluated, without_improvement


class Stopping(TrainerCallback):
    """Stops the trainer. All but the clock is read from the log, which checkpoints carry: a resumed run stops alike."""

    def __init__(self, train: Train, attempts: Attempts) -> None:
        self.train, self.attempts = train, attempts
        self.reason = STEPS

    @property
    def out_of_time(self) -> bool:
        """Whether all attempts together have used up `train.max_hours`."""
        hours = self.train.max_hours
        return hours is not None and self.attempts.seconds >= hours * 3600

    def over(self, history: Sequence[Entry]) -> bool:
        """Whether training was over at the end of this log, which a checkpoint carries; then `reason` says why."""
        if self.out_of_time:
            self.reason = BUDGET
        elif self._no_better(history):
            self.reason = EARLY
        return self.reason != STEPS

    def diverged_at_look(self, state: TrainerState, what: str) -> Divergence:
        """Held-out rows had a loss that is no number."""
        return at_look(state.global_step, what, _losses(state), stretch(self.train, state.max_steps))

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.attempts.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.attempts.tick()
        if self.out_of_time and state.global_step < state.max_steps:
            self.reason = BUDGET
            control.should_training_stop = True
            control.should_save = True  # the next attempt has no time left to come here again
            control.should_evaluate = args.eval_strategy != "no"

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        if "loss" not in more["logs"]:
            return
        found = divergence(_losses(state), stretch(self.train, state.max_steps), overflows=args.fp16)
        if found:
            raise Diverged(found)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.reason == STEPS and state.global_step < state.max_steps and self._no_better(state.log_history):
            self.reason = EARLY
            control.should_training_stop = True
            control.should_save = True  # the next attempt need not train to here again

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.attempts.tick(write=True)

    def _no_better(self, history: Sequence[Entry]) -> bool:
        stopping = self.train.early_stopping
        if stopping.patience is None:
            return False
        return without_improvement(evaluated(history), stopping.metric, stopping.min_delta) >= stopping.patience


def _losses(state: TrainerState) -> list[Entry]:
    return [entry for entry in state.log_history if "loss" in entry]
