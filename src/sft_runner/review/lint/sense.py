"""Rules about values that the pipeline takes, or finds only when it reads rows, and that cannot be meant."""

import re
from collections.abc import Iterator
from typing import Any

from sft_runner.config import conflicts
from sft_runner.data.formats import unknown_columns
from sft_runner.review.lint.finding import ERROR, WARNING, Remark
from sft_runner.review.lint.rule import rule
from sft_runner.review.lint.subject import CHOICE, LOCAL, RECIPE, Subject

COLUMNS = re.compile(r"data\.columns|(data\.sources|evaluate\.sets)\.[^.]+\.columns")
"""Keys whose value is a map of columns."""
OF_ONE_RUN = {
    "dry_run": "every run with it only plans",
    "force": "every run with it does these stages again",
    "locked": "only those with the lock can try another value",
    "output_dir": "where runs lie is a matter of the machine",
}
"""What is said for one run, on the command line -> why not in a recipe."""


@rule(WARNING, RECIPE)
def of_one_run(subject: Subject) -> Iterator[Remark]:
    """A recipe sets what is said for one run: `dry_run`, `force`, `locked` or `output_dir`."""
    for key, why in OF_ONE_RUN.items():
        path, value = subject.settings.get(key, ((), None))
        if value:
            yield Remark(subject.line_of(path), f"{key} in a recipe: {why}", "give it on the command line", key)


@rule(ERROR, RECIPE, CHOICE)
def missing_value(subject: Subject) -> Iterator[Remark]:
    """`???`, which stands for a value that somebody must give."""
    for key, (path, value) in subject.settings.items():
        if value == "???":
            yield Remark(subject.line_of(path), f"{key} has no value", "give one, or leave it out", path[-1])


@rule(ERROR, RECIPE, CHOICE)
def unknown_column(subject: Subject) -> Iterator[Remark]:
    """`data.columns`, or the map of one source or set, fills a column that the format does not have."""
    run = subject.composition.run if subject.composition else None
    formats = {key: form for key, form, _ in conflicts.columns(run.config)} if run else {}
    for key, (path, _) in subject.settings.items():
        above, _, name = key.rpartition(".")
        if not COLUMNS.fullmatch(above):
            continue
        for error in unknown_columns([name], formats.get(above, "auto"), above):
            yield Remark(subject.line_of(path), error.message, error.hint, name)


@rule(WARNING, RECIPE, CHOICE)
def improbable(subject: Subject) -> Iterator[Remark]:
    """Numbers that cannot be meant: steps beside epochs, a warm-up longer than the training, no saving, a port that
    does not exist, a rank above the model's width."""
    run = subject.composition.run if subject.composition else None
    if run is None or subject.group == LOCAL:
        return
    config = run.config
    steps, width = config.train.max_steps, config.model.architecture.get("hidden_size")
    for key, wrong, why in (
        ("train.num_train_epochs", steps > 0 and "train.max_steps" in subject.settings, "train.max_steps beats it"),
        ("train.warmup_steps", 0 < steps <= config.train.warmup_steps, f"the training has {steps} steps"),
        ("train.save_steps", config.train.save_steps == 0, "nothing is saved to go on from"),
        ("serve.port", not 0 <= config.serve.port < 65536, "ports end at 65535"),
        ("lora.r", width is not None and (config.lora.r or 0) > width, f"the model is {width} wide"),
    ):
        if wrong and key in subject.settings:
            yield Remark(_line(subject, key), f"{key}={_value(subject, key)}: {why}", "", key.rpartition(".")[2])


def _line(subject: Subject, key: str) -> int:
    return subject.line_of(subject.settings[key][0])


def _value(subject: Subject, key: str) -> Any:
    return subject.settings[key][1]
