"""The last lines on the screen: what came out, where it is, what to do next."""

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sft_runner import sweep
from sft_runner.errors import GateFailed, SftError
from sft_runner.evaluation.verdict import Verdict, number
from sft_runner.model.remote_code import allowed
from sft_runner.outcome import Outcome
from sft_runner.planning import Plan, wanted
from sft_runner.progress import summary
from sft_runner.report import PAGE as RUN_PAGE
from sft_runner.store import Store
from sft_runner.training.report import PAGE

_DOES = {"train": "trains", "merge": "merges", "evaluate": "evaluates", "export": "exports", "serve": "serves"}
"""What a stage does, as a person calls it."""


def close(plan: Plan, outcome: Outcome) -> None:
    """Say how a run ended; of one that failed only what is there all the same."""
    if outcome.error:
        if outcome.model:
            unfit = isinstance(outcome.error, GateFailed)
            print(f"model: {outcome.model}{'   # kept, not fit to serve' if unfit else ''}")
        found(outcome)
        return
    if plan.cached:
        for stage, manifest in outcome.manifests.items():
            for line in (*manifest.get("notes", ()), summary(stage, manifest["metrics"])):
                print(f"  {stage:<8}  {line}")
        print("nothing to do: everything is cached" + (f", from {outcome.folder}" if outcome.folder else ""))
    else:
        print(f"done: {outcome.folder}")
    for line in hints(plan, outcome):
        print(line)


def found(outcome: Outcome) -> None:
    """Say where the report of a run is, where it has one."""
    if page := _page(outcome):
        print(f"report: {page}", flush=True)


def verdicts(found: Sequence[Verdict]) -> str:
    """The table of the gates: what each limit wants, what was found, and by how much it was missed."""
    rows = [["gate", "limit", "wanted", "found", "95 % interval", ""]]
    for one in found:
        interval = " to ".join(map(number, one.interval)) if one.interval else "-"
        missed = "" if one.missed_by is None else f" by {number(one.missed_by)}"
        wanted = number(one.wanted) + (" for sure" if one.sure else "")
        rows.append(
            [
                *(one.gate, one.limit, wanted, "-" if one.found is None else number(one.found), interval),
                "passed" if one.passed else one.lacks or f"missed{missed}",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(f"  {line}".rstrip() for line in lines)


def ranking(folder: Path, headline: str) -> str:
    """The table of a sweep, where it is kept, and the command that goes on with the winner."""
    jobs, asked = sweep.read(folder), headline
    headline = sweep.ranked_by(jobs, asked)
    files = sweep.save(folder, jobs, headline)
    lines = ["", sweep.table(jobs, headline), *(f"  {file}" for file in files)]
    if headline != asked:
        lines.append(f"ranked by {headline}: no job has a tuned {asked}")
    best = sweep.rank(jobs, headline)[0]
    if not sweep.scored(best, headline):
        missed = any(job.state == sweep.GATE_FAILED for job in jobs)
        why = "no job's model is fit to serve" if missed else f"no job has a tuned {headline}"
        lines.append(f"not ranked: {why}" + ("" if missed else "; stage=evaluate scores the jobs"))
    else:
        words = [word for word in best.overrides if not word.startswith(("stage=", "stage.until="))]
        lines.append(f"next:  {_command(words)}   # merges and serves the best")
    return "\n".join(lines)


def fail(error: SftError) -> None:
    """Show an error on stderr."""
    print(f"error: {error.show()}", file=sys.stderr)


def hints(plan: Plan, outcome: Outcome) -> list[str]:
    """Where the model is, and the next commands."""
    lines: list[str] = []
    again = _command([word for word in plan.run.overrides if not word.startswith(("stage=", "stage.until=", "force="))])
    if outcome.model:
        lines.append(f"model: {outcome.model}")
    if page := _page(outcome):
        lines.append(f"report: {page}")
    if report := _report(plan):
        lines.append(f"curve: {report}")
    if plan.run.config.stage.until != "serve":
        if not allowed(plan.run.config.model):  # a model with code of its own is neither merged nor served
            lines.append(f"next:  {again}   # {_remaining(plan)}")
    elif not plan.run.config.stage.stay:
        lines.append(f"next:  {again} stage=serve   # keeps the server up")
    return lines + [f"       {shlex.join(words)}" for words in _viewers(plan)]


def _remaining(plan: Plan) -> str:
    """What the same command does up to the end: `merges, evaluates and serves`."""
    done = [step.stage for step in plan.steps]
    left = [_DOES[s] for s in wanted("serve", plan.run.config.export) if s in _DOES and s not in done]
    return f"{', '.join(left[:-1])} and {left[-1]}" if len(left) > 1 else "".join(left)


def _viewers(plan: Plan) -> Iterator[list[str]]:
    """The commands that show what the trackers keep on this machine."""
    tracking = plan.run.config.tracking
    if tracking.mlflow.enabled and not (tracking.mlflow.uri or os.environ.get("MLFLOW_TRACKING_URI")):
        yield ["mlflow", "ui", "--backend-store-uri", f"sqlite:///{plan.output_dir}/mlflow.db"]
    if tracking.tensorboard.enabled:
        yield ["tensorboard", "--logdir", tracking.tensorboard.dir or str(plan.output_dir / "tensorboard")]


def _page(outcome: Outcome) -> Path | None:
    """The report of the run."""
    page = outcome.folder / RUN_PAGE if outcome.folder else None
    return page if page and page.is_file() else None


def _report(plan: Plan) -> Path | None:
    """The page with the loss curve of the training that this plan made or found."""
    for step in plan.steps:
        page = Store(plan.output_dir).folder(step.stage, step.fingerprint) / PAGE
        if step.stage == "train" and page.is_file():
            return page
    return None


def _command(words: Sequence[str]) -> str:
    """A command line as a shell takes it."""
    return shlex.join(["python", "-m", "sft_runner", *words])
