"""The command line: Hydra in, exit code out. A first word without `=` is a command; without one, the pipeline runs."""

import os
import secrets
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sft_runner import commands, screen
from sft_runner.config import composing, sources
from sft_runner.errors import SftError, UnknownName
from sft_runner.launcher import Workers
from sft_runner.planning import plan
from sft_runner.runner import execute
from sft_runner.serving.stay import stay
from sft_runner.sweep import Job, finish, write_job

workers = Workers()
failures: list[int] = []
"""Exit codes of the jobs that failed; Hydra's own return value would end a sweep at the first."""


def main() -> None:
    """Entry point of `sft-runner` and `python -m sft_runner`."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = _main(sys.argv[1:])
    except SftError as error:
        screen.fail(error)
        code = error.exit_code
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        code = 130
    finally:
        workers.close()
    sys.exit(code)


def _main(arguments: list[str]) -> int:
    if arguments and arguments[0].isidentifier():
        return _command(arguments[0], arguments[1:])
    shell = bool({"-sc", "--shell-completion"} & set(arguments))
    overrides = [word for word in arguments if "=" in word and not word.startswith("-") or word[:1] in ("~", "+")]
    if not shell:
        composing.check(overrides)
    swept = bool({"-m", "--multirun"} & set(arguments))
    if swept:
        os.environ["SFT_RUNNER_SWEEP"] = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        if not any(word.startswith(("stage=", "stage.until=")) for word in overrides):
            sys.argv.append("stage=evaluate")  # rank first; the winner is merged and served afterwards
    sources.register()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises instead of printing and exiting
    try:
        _job()
    except (HydraException, OmegaConfBaseException) as error:
        raise composing.explain(error) from None
    if swept and (folder := os.environ.get("SFT_RUNNER_SWEEP_FOLDER")):
        print(finish(Path(folder)))
    return failures[0] if failures else 0


def _command(name: str, arguments: list[str]) -> int:
    if name not in commands.COMMANDS:
        known = [*commands.COMMANDS, *(f"recipe={recipe}" for recipe in sources.recipes())]
        raise UnknownName("command", name, known)
    return commands.COMMANDS[name](arguments)


@hydra.main(version_base="1.3", config_path=None, config_name="sft")
def _job(composed: DictConfig) -> float | None:
    """One run, or one job of a sweep; returns its headline metric for Hydra's sweepers."""
    in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        return _run(composed, HydraConfig.get() if in_sweep else None)
    except SftError as error:
        screen.fail(error)
        failures.append(error.exit_code)
        return None


def _run(composed: DictConfig, sweep: Any) -> float | None:
    run = composing.from_hydra(composed)
    planned = plan(run)
    if sweep:
        print(f"\njob {sweep.job.num}: {', '.join(sweep.overrides.task)}")
    print(planned)
    if run.config.dry_run:
        return None
    name = os.environ.get("SFT_RUNNER_SWEEP") if sweep else None
    outcome = execute(planned, workers, sweep=name)
    if sweep:
        folder = Path(sweep.sweep.dir).resolve()
        os.environ["SFT_RUNNER_SWEEP_FOLDER"] = str(folder)
        write_job(folder, Job.of(sweep.job.num, list(sweep.overrides.task), outcome, run.config.evaluate.headline))
    if outcome.error:
        raise outcome.error
    if not sweep:
        screen.close(planned, outcome)
    if run.config.stage.stay and outcome.model:
        workers.close()
        stay(run.config, outcome.model.resolve(), run.config.name, print)
    return outcome.metrics.get(f"tuned.{run.config.evaluate.headline}")


def _terminate(number: int, frame: Any) -> None:
    """SIGTERM ends a run like Ctrl-C: everything is written down, and the same command goes on."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
