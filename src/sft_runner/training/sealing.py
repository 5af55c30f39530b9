"""When a checkpoint is taken, that it can be trusted, and which ones may still be needed."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft_runner.config.schema_train import Train
from sft_runner.training import checkpoints
from sft_runner.training.cadence import fallback, stretch, tenth
from sft_runner.training.divergence import good_until
from sft_runner.training.looks import best, evaluated


class Sealing(TrainerCallback):
    """Seals each checkpoint; besides the newest it keeps the best one, and one that no divergence can reach back to."""

    def __init__(self, train: Train, folder: Path) -> None:
        self.train, self.folder = train, folder

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        state.compute_steps(args, state.max_steps)  # type: ignore[no-untyped-call]  # else those of the attempt that took the checkpoint

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        step, steps = state.global_step, state.max_steps
        every = fallback(self.train, steps)
        if every > 1 and step % every == 0:
            control.should_save = True
        if step % tenth(steps) == 0 or (self.train.on_divergence == "keep" and step % stretch(self.train, steps) == 0):
            control.should_log = True
        if step >= steps:
            control.should_save = False  # the trained weights themselves follow at once
            control.should_log = True
        if control.should_save or control.should_evaluate:
            control.should_log = True  # so that a resumed run logs over the same steps as an uninterrupted one

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._best(state) == state.global_step < state.max_steps:
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        checkpoints.seal(self.folder / f"{checkpoints.PREFIX}{state.global_step}")
        logged, steps = [entry for entry in state.log_history if "loss" in entry], state.max_steps
        good, best_step = good_until(logged, stretch(self.train, steps)), self._best(state)
        every = fallback(self.train, steps)
        needed = checkpoints.since(self.folder, good, every) if every > 1 else checkpoints.around(self.folder, good)
        checkpoints.rotate(self.folder, self.train.save_total_limit, needed | ({best_step} if best_step else set()))

    def _best(self, state: TrainerState) -> int | None:
        """The step of the best look so far; None where its weights are not kept."""
        if not self.train.load_best_model_at_end:
            return None
        found = best(evaluated(state.log_history), self.train.early_stopping.metric)
        return None if found is None else int(found["step"])
