"""What must not stand in a report, which is passed on: secrets in addresses, and where this machine keeps things."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sft_runner.masking import masked
from sft_runner.report.record import Record


def clean(record: Record) -> Record:
    """The same record, its texts without secrets and with places below `output_dir` relative to it.

    Other places stay, such as `data.path`: they are what was asked. Settings are kept as they are: `config.yaml` was
    written without secrets.
    """
    place = re.compile(rf"(?<![\w./-]){re.escape(str(record.output_dir))}(?![\w.-])")

    def text(value: str) -> str:
        return masked(place.sub(lambda _: record.output_dir.name, value))

    return replace(
        record,
        known=_each(record.known, text),
        plan=_each(record.plan, text),
        manifests={
            stage: {key: _each(value, text) if key in ("notes", "datasets") else value for key, value in one.items()}
            for stage, one in record.manifests.items()
        },
        error=text(record.error),
    )


def _each(values: Any, change: Callable[[str], str]) -> Any:
    """The same values with every text changed."""
    if isinstance(values, Mapping):
        return {key: _each(value, change) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_each(value, change) for value in values]
    return change(values) if isinstance(values, str) else values
