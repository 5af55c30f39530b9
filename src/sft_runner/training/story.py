"""How a training went, in sentences: what a person should know who sees only its numbers."""

from sft_runner.config.schema_train import Train
from sft_runner.training.attempts import Attempts
from sft_runner.training.ending import BUDGET, DIVERGENCE, EARLY, Ending
from sft_runner.training.looks import PREFIX, Entry, best

LONGER = "a larger one trains from the start, and train.continue_from trains an adapter further"
"""What to do for whom the budget was too small."""


def warnings(attempts: Attempts, size: int) -> list[str]:
    """What this attempt should not be surprised by, as earlier ones went through it. A step has `size` rows."""
    told = descents(attempts, size)
    if attempts.divergences:
        last, count = attempts.divergences[-1], len(attempts.divergences)
        times = "once" if count == 1 else f"{count} times"
        told.append(
            f"training has diverged {times} already with these settings, last at step {last.step}: {last.what}; "
            "without a change it is likely to end there again"
        )
    return told


def descents(attempts: Attempts, size: int) -> list[str]:
    """Where memory ran out, and what was done about it. A step has `size` rows."""
    return [descent.told(size) for descent in attempts.descents]


def notes(train: Train, attempts: Attempts, ending: Ending) -> list[str]:
    """What belongs beside the result for good about how training ended."""
    told = []
    metric, patience = train.early_stopping.metric, train.early_stopping.patience
    place = f"at step {ending.step} of {ending.steps}"
    if ending.stopped_by == EARLY:
        looks = "look" if patience == 1 else f"{patience} looks"
        told.append(f"stopped {place}: no better {metric} on held-out rows in the last {looks}")
    if ending.stopped_by == BUDGET:
        told.append(f"stopped {place}: train.max_hours={train.max_hours:g} is used up; {LONGER}")
    if ending.stopped_by == DIVERGENCE:
        told.append(f"training diverged {place}: {attempts.divergences[-1].what}")
    if ending.kept != ending.step:
        why = f"the best look at held-out rows by {metric}" if train.load_best_model_at_end else "the last good one"
        told.append(f"the weights are those of step {ending.kept}, {why}")
    return told


def story(train: Train, attempts: Attempts, size: int, notes: list[str], looks: list[Entry]) -> list[str]:
    """All that happened, in its order: interruptions and steps down, then the notes, and how good the best look was."""
    told = []
    for count in range(len(attempts.resumed) + 1):
        if count:
            told.append(f"training was interrupted and went on from step {attempts.resumed[count - 1]}")
        told += [descent.told(size) for descent in attempts.descents if descent.resumed == count]
    told += notes
    metric = train.early_stopping.metric
    if found := best(looks, metric):
        told.append(
            f"the best look at held-out rows was at step {found['step']}: {metric} {found[PREFIX + metric]:.4g}"
        )
    return told
