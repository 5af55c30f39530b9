"""The last lines on the screen: what came out, where it is, what to do next."""

import sys

from sft_runner.errors import SftError
from sft_runner.planning import Plan
from sft_runner.progress import summary
from sft_runner.runner import Outcome


def close(plan: Plan, outcome: Outcome) -> None:
    """Say how a run ended."""
    if plan.cached:
        for stage, manifest in outcome.manifests.items():
            print(f"  {stage:<8}  {summary(stage, manifest['metrics'])}")
        print("nothing to do: everything is cached" + (f", from {_shown(plan, outcome)}" if outcome.folder else ""))
    else:
        print(f"done: {_shown(plan, outcome)}")
    for line in hints(plan, outcome):
        print(line)


def fail(error: SftError) -> None:
    """Show an error on stderr."""
    print(f"error: {error.show()}", file=sys.stderr)


def hints(plan: Plan, outcome: Outcome) -> list[str]:
    """Where the model is, and the next commands."""
    lines: list[str] = []
    again = "python -m sft_runner " + " ".join(
        _quoted(word) for word in plan.run.overrides if not word.startswith("stage=")
    )
    if outcome.model:
        lines.append(f"model: {outcome.model}")
    if plan.run.config.stage.until != "serve":
        lines.append(f"next:  {again.strip()}   # merges and serves what was trained")
    elif not plan.run.config.stage.stay:
        lines.append(f"next:  {again.strip()} stage=serve   # keeps the server up")
    if plan.run.config.tracking.mlflow.enabled and not plan.run.config.tracking.mlflow.uri:
        lines.append(f"       mlflow ui --backend-store-uri sqlite:///{plan.output_dir}/mlflow.db")
    return lines


def _shown(plan: Plan, outcome: Outcome) -> str:
    return str(outcome.folder)


def _quoted(word: str) -> str:
    """A word as a shell takes it."""
    import shlex

    return shlex.quote(word)
