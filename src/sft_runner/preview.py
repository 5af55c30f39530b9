"""`sft-runner preview`: what a few rows become, before anything is trained."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sft_runner import load
from sft_runner.config.conflicts import nothing_to_learn
from sft_runner.errors import raise_all

LOOKED_AT = 200
"""Rows of each source that the sums are made of, at least."""


def look(overrides: Sequence[str], rows: int, whole: bool) -> None:
    """Print `rows` rows of a run, long texts only if `whole`, and the sums of its first rows. Raises `SftError`."""
    config = load(*overrides).config
    raise_all(list(nothing_to_learn(config)))
    from rich.console import Console

    from sft_runner.data import files, sampling
    from sft_runner.data.report import terminal

    if files.missing(config.data):
        files.fetch(config.data)
    with _without_torch():
        samples, report = sampling.sample(config, max(rows, LOOKED_AT))
    most = sys.maxsize if whole else terminal.MOST
    terminal.show(Console(highlight=False), terminal.chosen(samples, rows), report, most)


@contextmanager
def _without_torch() -> Iterator[None]:
    """Let transformers find no torch, which its tokenizers do not need and which takes seconds to import.

    It is for a process that does nothing else: transformers remembers what it found.
    """
    if "torch" in sys.modules:
        yield
        return
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # it would advise to install torch
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]
