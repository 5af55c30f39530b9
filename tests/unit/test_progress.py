"""What is shown of a stage that tells much."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from sft_runner import progress
from sft_runner.progress import Progress

STEP: Any = SimpleNamespace(stage="merge")


def shown(capsys: pytest.CaptureFixture[str], *messages: str) -> list[str]:
    told = Progress(SimpleNamespace(steps=[STEP]), live=False)  # type: ignore[arg-type]
    told.begin(STEP)
    for message in messages:
        told.event("merge", {"message": message})
        time.sleep(0.002)
    return [line.removeprefix("  merge  ") for line in capsys.readouterr().out.splitlines()]


def test_what_only_counts_is_not_shown_each_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = [f"weights: {done} of 40 tensors" for done in range(1, 41)]
    assert shown(capsys, "merge: 0.0 of 0.0 GB", *counts) == [], "the stage is quick"
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.02)
    assert 2 <= len(shown(capsys, *counts)) <= 10, "one in a while"


def test_all_else_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    said = ["3 rows have no answer", "3 rows have no answer", "4 rows have no answer", "goes on from step 20"]
    assert shown(capsys, *said) == said
