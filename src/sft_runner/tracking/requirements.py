"""What a tracker needs before a run begins: its package, and for Weights & Biases a key. Imports none of them."""

import os
from collections.abc import Iterator
from importlib.util import find_spec

from sft_runner.config.schema import Tracking, Wandb
from sft_runner.errors import MachineError

EXTRAS = ("tensorboard", "wandb")
"""Trackers whose package is an extra of the same name."""


def enabled(tracking: Tracking) -> list[str]:
    """The trackers that a run tells, in the order of the schema."""
    return [name for name, tracker in vars(tracking).items() if tracker.enabled]


def check(tracking: Tracking) -> None:
    """Raise `MachineError` for the first thing that is missing, so that it is told before anything is trained."""
    for error in _missing(tracking):
        raise error


def offline(wanted: Wandb) -> bool:
    """Whether nothing is sent to Weights & Biases: by its setting, or by its own variable."""
    return "offline" in (wanted.mode, os.environ.get("WANDB_MODE"))


def _missing(tracking: Tracking) -> Iterator[MachineError]:
    names = enabled(tracking)
    for name in EXTRAS:
        if name in names and find_spec(name) is None:
            rest = ",".join(other for other in names if other != name) or "none"
            hint = f"pip install 'sft-runner[{name}]', or go without it: tracking=[{rest}]"
            yield MachineError(f"tracking={name} needs the package {name}, which is not installed", hint)
    if "wandb" in names and not offline(tracking.wandb) and not _key():
        hint = "set WANDB_API_KEY, or use tracking.wandb.mode=offline"
        yield MachineError("tracking=wandb: there is no key for Weights & Biases", hint)


def _key() -> bool:
    """Whether the environment has a key, or a token in its place."""
    return bool(os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"))
