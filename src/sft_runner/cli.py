"""The command line: Hydra in, exit code out. A first word without `=` is a command; without one, the pipeline runs."""

import errno
import functools
import os
import secrets
import signal
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sft_runner import commands, screen, sweep
from sft_runner.config import composing, sources
from sft_runner.errors import GateFailed, MachineError, SftError, UnknownName, UserError, raise_all
from sft_runner.launcher import Workers
from sft_runner.outcome import Outcome
from sft_runner.planning import Plan, plan
from sft_runner.runner import asked, execute, record
from sft_runner.serving.stay import stay
from sft_runner.sweep import Job

workers = Workers()
received = [int(signal.SIGINT)]
"""The signal that ended this command, as the exit code tells it."""
failures: list[int] = []
"""Exit codes of the jobs that failed; Hydra's own return value would end a sweep at the first."""


class Jobs:
    """The jobs of this process's sweep."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.headline = ""
        self.worked = False
        self.cached: list[Plan] = []

    def record(self, now: HydraConf, outcome: Outcome | None, seconds: float) -> None:
        """Leave one file for a job in the sweep folder."""
        self.folder = Path(now.sweep.dir).absolute()
        found = outcome or Outcome("failed", None)
        folder, words = str(found.folder or ""), list(now.overrides.task)
        state = sweep.GATE_FAILED if isinstance(found.error, GateFailed) else found.state
        job = Job(now.job.num, words, state, found.metrics, folder, found.mlflow_run_id, round(seconds, 1))
        sweep.write(self.folder, job)

    def end(self) -> None:
        """Show the cached jobs to the tracker too, unless every job was cached, and print the ranking."""
        for planned in self.cached if self.worked else ():
            record(planned, os.environ["SFT_RUNNER_SWEEP"])
        if self.folder:
            print(screen.ranking(self.folder, self.headline))


jobs = Jobs()


def main() -> None:
    """Entry point of `sft-runner` and `python -m sft_runner`."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = _main(sys.argv[1:])
        if sys.stdout:  # None where the command was started without one
            sys.stdout.flush()  # while what goes wrong with it can still be told
    except SftError as error:
        screen.fail(error)
        code = error.exit_code
    except BrokenPipeError:  # who read our output, such as `head`, has seen enough
        _discard_output()
        code = 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        place = error.filename or "what is printed"
        full = MachineError(f"{place} cannot be written: {error.strerror}", "free some; the same command goes on")
        screen.fail(full)
        _discard_output()
        code = full.exit_code
    except KeyboardInterrupt:
        named = sys.argv[1:2] and sys.argv[1].isidentifier()  # a command of its own, which keeps nothing
        print("\nstopped" if named else "\nstopped; the same command goes on from here", file=sys.stderr)
        code = 128 + received[-1]
    finally:
        workers.close()
    sys.exit(code)


def _discard_output() -> None:
    """Nothing can be printed any more; Python would fail again when it flushes at exit."""
    if sys.stdout:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _main(arguments: list[str]) -> int:
    if arguments and arguments[0].isidentifier():
        return _command(arguments[0], arguments[1:])
    shell = bool({"-sc", "--shell-completion"} & set(arguments))
    overrides = [word for word in arguments if "=" in word and not word.startswith("-") or word[:1] in ("~", "+")]
    swept = bool({"-m", "--multirun"} & set(arguments))
    if not shell:
        composing.check(overrides, swept)
    if swept:
        os.environ["SFT_RUNNER_SWEEP"] = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        if not any(word.startswith(("stage=", "stage.until=")) for word in overrides):
            sys.argv.append("stage=evaluate")  # rank first; the winner is merged and served afterwards
            overrides.append("stage=evaluate")
        if not shell:
            _plan_jobs(overrides)
    sources.register()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises instead of printing and exiting
    try:
        _job()
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise composing.explain(error) from None
    finally:
        jobs.end()
    return failures[0] if failures else 0


def _plan_jobs(overrides: list[str]) -> None:
    """Plan all jobs of a sweep, so that none begins where another cannot run. Raises `UserError`."""
    refused: dict[str, list[str]] = {}
    words = composing.jobs(overrides)
    for number, job in enumerate(words):
        try:
            plan(composing.of_words(job))
        except UserError as error:
            refused.setdefault(error.show(), []).append(f"job {number}")
    told = ((f"{', '.join(which)}: " if len(which) < len(words) else "", text) for text, which in refused.items())
    raise_all([UserError(f"{which}{text}") for which, text in told])


def _command(name: str, arguments: list[str]) -> int:
    if name not in commands.COMMANDS:
        known = [*commands.COMMANDS, *(f"recipe={recipe}" for recipe in sources.recipes())]
        raise UnknownName("command", name, known)
    return commands.command(name)(arguments)


@hydra.main(version_base="1.3", config_path=None, config_name="sft")
def _job(composed: DictConfig) -> float | None:
    """One run, or one job of a sweep; returns its headline metric for Hydra's sweepers."""
    now = HydraConfig.get()
    in_sweep = now.mode == RunMode.MULTIRUN
    if in_sweep:
        print(f"\njob {now.job.num}: {' '.join(now.overrides.task)}", flush=True)
    began = time.monotonic()
    outcome, error = None, None
    try:
        outcome = _run(composed, in_sweep)
        error = outcome.error if outcome else None
    except SftError as raised:
        error = raised
    if error:
        screen.fail(error)
        failures.append(error.exit_code)
    if in_sweep and (outcome or error):
        jobs.record(now, outcome, time.monotonic() - began)
    return outcome.metrics.get(f"tuned.{jobs.headline}") if outcome else None


def _run(composed: DictConfig, in_sweep: bool) -> Outcome | None:
    """Plan and run; None for a dry run."""
    run = composing.from_hydra(composed)
    if in_sweep and run.config.stage.stay:
        raise UserError(
            "stage=serve stays up, which would hold the sweep at its first job", "serve the best one afterwards"
        )
    jobs.headline = run.config.evaluate.headline
    planned = plan(run)
    print(planned, flush=True)
    if run.config.dry_run:
        return None
    worked, jobs.worked = jobs.worked, True
    outcome = execute(planned, workers, sweep=os.environ.get("SFT_RUNNER_SWEEP") if in_sweep else None)
    if outcome.known:
        jobs.worked = worked
        jobs.cached += [planned] if in_sweep else []
    if outcome.verdicts:
        print(screen.verdicts(outcome.verdicts), flush=True)
    if in_sweep:
        screen.found(outcome)
    else:
        screen.close(planned, outcome)
    if outcome.error and not (isinstance(outcome.error, GateFailed) and "serve" in run.config.force):
        return outcome
    if run.config.stage.stay and outcome.model:
        workers.close()
        tell = functools.partial(print, flush=True)
        stay(run.config, outcome.model.resolve(), run.config.name, tell, question=asked(planned))
    return outcome


def _terminate(number: int, frame: Any) -> None:
    """SIGTERM ends a run like Ctrl-C: everything is written down, and the same command goes on."""
    received.append(number)
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
