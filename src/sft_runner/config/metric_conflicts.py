"""Metrics that cannot be measured as they are named."""

import re
from collections.abc import Iterator

from sft_runner.config.schema import Config
from sft_runner.errors import UnknownName, UserError
from sft_runner.evaluation import names

PATTERN = "pattern"
"""The metric that needs an expression."""


def of_metrics(config: Config) -> Iterator[UserError]:
    """What is wrong with the names of metrics, and with the expression of the one that needs one."""
    asked, stopping = config.evaluate, config.train.early_stopping
    keys = [("evaluate.metrics: ", name) for name in dict.fromkeys(asked.metrics)]
    for where, name in [*keys, ("train.early_stopping.metric: ", stopping.metric)]:
        try:
            names.find(name, where)
        except UserError as error:
            yield error
    measured = [*asked.metrics, *names.ALWAYS]
    if asked.headline not in measured:
        if names.exists(asked.headline):
            hint = f"add it to evaluate.metrics: evaluate.metrics=[{','.join([*asked.metrics, asked.headline])}]"
            yield UserError(f"evaluate.headline={asked.headline} is not measured", hint)
        else:
            yield UnknownName("metric", asked.headline, measured, "evaluate.headline: ")
    expressions = [("evaluate.pattern", asked.pattern, "evaluate.metrics", PATTERN in asked.metrics)]
    watched = stopping.metric == PATTERN
    expressions.append(
        ("train.early_stopping.pattern", stopping.pattern, "train.early_stopping.metric", watched and not asked.pattern)
    )
    for key, text, by, needed in expressions:
        if text is None and needed:
            hint = rf"give a regular expression, such as '{key}=Answer: (\w+)'"
            yield UserError(f"{by}: {PATTERN} needs {key}", hint)
        elif text is not None and (wrong := _wrong(text)):
            yield UserError(f"{key}={text!r} is no regular expression: {wrong}", "see the syntax of Python's re")


def _wrong(text: str) -> str:
    """What is wrong with an expression; empty where it can be used."""
    try:
        re.compile(text)
    except re.error as error:
        return str(error)
    return "" if text else "it is empty"
