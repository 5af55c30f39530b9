"""What trackers and tables draw: the numbers of events, of manifests, and of nested metrics as a flat dictionary."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

PROGRESS = ("time", "step", "steps", "seconds_left")
"""Numbers of an event that say how far it is, not how well it does."""


def flat(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of nested metrics, `tuned.loss` for `{"tuned": {"loss": 0.1}}`; anything else is left out."""
    return dict(_walk(metrics, ""))


def measured(event: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an event that say how well it does."""
    return {key: value for key, value in event.items() if key not in PROGRESS and is_number(value)}


def results(manifest: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a manifest, with the seconds that the stage took."""
    return flat({**manifest.get("metrics", {}), "seconds": manifest.get("seconds")})


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a number that can be drawn; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _walk(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _walk(value, f"{prefix}{key}.")
        elif is_number(value):
            yield prefix + key, float(value)
