"""Benchmarks by lm-evaluation-harness, for the model that is in memory already.

Nothing of it runs code that a model wrote or that is fetched, and of a user's own tasks only data is read (`tasks`).
"""

import json
import math
import os
import random
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config
from sft_runner.disk import explained
from sft_runner.errors import MachineError, SftError, UnknownName, UserError
from sft_runner.evaluation import tasks
from sft_runner.evaluation.generation import greedy
from sft_runner.evaluation.scoring import BENCHMARKS, HIGHER
from sft_runner.model.memory import first_line, free, ran_out
from sft_runner.stages.stage import Report

FOLDER = "benchmarks"
"""Where the answers to each task lie below the stage's folder."""
RESAMPLES = 1000
"""For the standard error of a metric that has no formula for it."""
SEEDS = {"random": 0, "numpy": 1234, "fewshot": 1234}
"""As lm-evaluation-harness has them."""
REQUESTS = ("loglikelihood", "loglikelihood_rolling", "generate_until")
"""What tasks ask of a model."""
_SMALLER = "try, one after the other: quantization.bits=4, a task with shorter prompts"


def run(config: Config, model: Any, tokenizer: Any, folder: Path, report: Report) -> dict[str, Any]:
    """Below `benchmarks` the metrics of each task of `evaluate.benchmarks`, of its parts and of groups, by name, with
    standard errors as `METRIC_stderr`; a metric of several filters has the filter's name behind it. Below
    `higher_is_better` whether more of each is better. Nothing where no task is asked for.

    Writes `benchmarks/TASK.jsonl` below `folder`: each document with prompt, answer and what it scored. Where memory
    runs out, it begins again with half as many at once. Raises `UserError` for a task that is not there or runs code,
    `MachineError` where the package, a task's data or memory is missing.
    """
    asked = config.evaluate
    if not asked.benchmarks:
        return {}
    tasks.check(config)
    os.environ.setdefault("DISABLE_MULTIPROC", "1")  # its resampling would fork a pool out of a loaded model
    size = config.hardware.per_device_eval_batch_size
    with greedy(model, tokenizer) as (generator, _), _no_fetched_code() as refused:
        while True:
            loaded = _load(config, refused, report)
            found, failure = _attempt(config, generator, tokenizer, loaded, size, report)
            if found is not None:
                break
            if size == 1:
                raise MachineError(f"out of memory in benchmarks: {failure}", _SMALLER)
            size //= 2
            free()
            report(message=f"out of memory in benchmarks: begins again with {size} at once", error=failure)
    _write(folder / FOLDER, found.get("samples") or {})
    told, results = found.get("higher_is_better") or {}, found["results"].items()
    return {
        BENCHMARKS: {str(name): metrics for name, values in results if (metrics := numbers(values))},
        HIGHER: {str(name): directions(values, told.get(name) or {}) for name, values in results},
    }


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of one task's results."""
    return {
        name: float(value)
        for name, _, value in _named(values)
        if isinstance(value, int | float) and math.isfinite(value)
    }


def directions(values: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, bool | None]:
    """Whether more is better, of each metric of one task's results of which the harness knows; None where the parts of
    a group do not agree."""
    return {
        name: None if told[metric] is None else bool(told[metric])
        for name, metric, _ in _named(values)
        if metric in told and not name.endswith("_stderr")
    }


def _named(values: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Our name, the metric's own, and the value of each result, whose keys are `METRIC,FILTER` and
    `METRIC_stderr,FILTER`."""
    keys = [key.rpartition(",") for key in values if "," in key]
    several = len({by for _, _, by in keys}) > 1
    for told, _, by in keys:
        metric = told.removesuffix("_stderr")
        yield tasks.metric_name(metric, by, several) + told.removeprefix(metric), metric, values[f"{told},{by}"]


def _attempt(
    config: Config, model: Any, tokenizer: Any, loaded: Any, size: int, report: Report
) -> tuple[dict[str, Any] | None, str]:
    """The harness's results; None and what the allocator said where memory ran out."""
    from lm_eval.evaluator import evaluate  # type: ignore[import-untyped]
    from lm_eval.models.huggingface import HFLM  # type: ignore[import-untyped]

    kwargs = config.data.chat_template_kwargs or None
    reader = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=size, chat_template_args=kwargs)
    for name in REQUESTS:
        setattr(reader, name, _told(reader, name, report))
    chats = bool(tokenizer.chat_template)
    try:
        found: dict[str, Any] = evaluate(
            lm=reader,
            task_dict=loaded,
            limit=config.evaluate.benchmarks_limit,
            bootstrap_iters=RESAMPLES,
            apply_chat_template=chats,
            fewshot_as_multiturn=chats,
            confirm_run_unsafe_code=False,
        )
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        return None, first_line(error)
    return found, ""


def _load(config: Config, refused: list[str], report: Report) -> Any:
    """The tasks with their data, no code of a user's among them."""
    import numpy
    from lm_eval.tasks import TaskManager  # type: ignore[import-untyped]

    names, folder = list(dict.fromkeys(config.evaluate.benchmarks)), tasks.folder_of(config)
    report(message=f"benchmarks: reading {', '.join(names)}")
    own = tasks.read(folder) if folder else {}
    random.seed(SEEDS["random"])
    numpy.random.seed(SEEDS["numpy"])
    manager = TaskManager(include_path=str(folder) if folder else None, include_defaults=not tasks.alone(names, own))
    for name in names:
        entry = manager.task_index.get(name)
        if entry is None:
            raise UnknownName("task", name, manager.all_tasks, f"{tasks.NAMES}: ")
        _refuse_unsafe(name, (entry.cfg or {}).get("unsafe_code"))
    with chdir(folder or Path.cwd()), _explained(names):
        loaded = manager.load(names)
    for metric in refused:
        raise UnknownName("metric", metric, _metrics(), f"{tasks.NAMES}: {', '.join(names)}: ")
    for name, task in loaded["tasks"].items():
        _refuse_unsafe(name, getattr(task, "UNSAFE_CODE", False))
        if task.get_config("num_fewshot") is None:
            task.set_config("num_fewshot", 0)
        task.set_fewshot_seed(seed=SEEDS["fewshot"])
    return loaded


def _metrics() -> list[str]:
    """The metrics that the harness has without fetching code."""
    from lm_eval.api import registry  # type: ignore[import-untyped]

    return list(registry.metric_registry.keys())


def _refuse_unsafe(name: str, unsafe: Any) -> None:
    if unsafe:
        hint = "take it out of evaluate.benchmarks; lm-evaluation-harness itself can run it in a sandbox of yours"
        raise UserError(f"{tasks.NAMES}: {name} runs the code that the model writes, which is refused here", hint)


@contextmanager
def _explained(names: list[str]) -> Iterator[None]:
    """Turn what goes wrong with a task's files and data into a line that names it."""
    what = f"{tasks.NAMES}: {', '.join(names)}"
    try:
        yield
    except (SftError, MemoryError):
        raise
    except Exception as error:  # datasets, the hub client and tasks' own code each have their own
        said = f"{type(error).__name__}: {first_line(error)}"
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            hint = "its data set comes from the hub: run once with a network, or use tasks with data of your own"
            raise MachineError(f"{what}: the data cannot be had: {said}", hint) from error
        hint = "the log has the whole story; a task whose data set comes from the hub needs a network the first time"
        raise UserError(f"{what} cannot be loaded: {said}", hint) from error


@contextmanager
def _no_fetched_code() -> Iterator[list[str]]:
    """No metric's code comes from the hub, and templates of tasks see nothing but the document.

    Gives the metrics that were refused: the harness goes on without a metric that it does not get.
    """
    import evaluate  # type: ignore[import-untyped]
    from jinja2.sandbox import SandboxedEnvironment
    from lm_eval import utils  # type: ignore[import-untyped]

    refused: list[str] = []

    def refuse(name: str, *_: Any, **__: Any) -> Any:
        refused.append(name)
        raise UserError(f"{tasks.NAMES}: the metric '{name}' would run code from the hub, which is refused here")

    free_, fetch = utils.env, evaluate.load
    utils.env = SandboxedEnvironment(undefined=free_.undefined, keep_trailing_newline=free_.keep_trailing_newline)
    utils.env.filters |= free_.filters
    evaluate.load = refuse
    try:
        yield refused
    finally:
        utils.env, evaluate.load = free_, fetch


def _told(reader: Any, name: str, report: Report) -> Callable[..., Any]:
    """One kind of request that tells how far it is; the harness calls its cache for each answer."""
    ask = getattr(reader, name)

    def asked(requests: Any, *more: Any, **options: Any) -> Any:
        total, done = len(requests), 0

        class Told:
            def add_partial(self, *_: Any) -> None:
                nonlocal done
                done = min(done + 1, total)
                if done == total or done % max(total // 100, 1) == 0:
                    report(step=done, steps=total, message=f"benchmarks: {name}")

        reader.cache_hook = Told()
        return ask(requests, *more, **options)

    return asked


def _write(folder: Path, samples: Mapping[str, list[dict[str, Any]]]) -> None:
    """One file for each task, one document to a line."""
    with explained(folder):
        folder.mkdir()
    for name, documents in samples.items():
        path = folder / f"{re.sub(r'[^A-Za-z0-9_.+-]', '_', name)}.jsonl"
        with explained(path), open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
            for document in documents:
                file.write(json.dumps(document, ensure_ascii=False, default=str) + "\n")
