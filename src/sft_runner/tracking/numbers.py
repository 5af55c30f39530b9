"""Metrics as trackers and tables take them: a flat dictionary of numbers."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard


def flat(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of nested metrics, `tuned.loss` for `{"tuned": {"loss": 0.1}}`; anything else is left out."""
    return dict(_walk(metrics, ""))


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a number that can be drawn; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _walk(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _walk(value, f"{prefix}{key}.")
        elif is_number(value):
            yield prefix + key, float(value)
