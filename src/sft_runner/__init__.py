"""Fine-tuning as a recipe that a team reviews in a pull request.

from sft_runner import load, plan, run

outcome = run(load("recipe=quickstart", "lora.r=8"))
outcome.metrics["tuned.exact_match"], outcome.model
"""

from typing import TYPE_CHECKING

__all__ = ["load", "plan", "run"]
__version__ = "0.1.0"

if TYPE_CHECKING:
    from sft_runner.config.run import Run
    from sft_runner.outcome import Outcome
    from sft_runner.planning import Plan


def load(*overrides: str) -> "Run":
    """A settled run from the words of a command line. Raises `UserError`."""
    from sft_runner.config.composing import load

    return load(*overrides)


def plan(run: "Run") -> "Plan":
    """What running it would do; prints as a table. Raises `UserError`."""
    from sft_runner.planning import plan

    return plan(run)


def run(run: "Run") -> "Outcome":
    """Run it, or find that it was run. Raises the error of a stage that failed."""
    from sft_runner.planning import plan
    from sft_runner.runner import execute

    outcome = execute(plan(run))
    if outcome.error:
        raise outcome.error
    return outcome
