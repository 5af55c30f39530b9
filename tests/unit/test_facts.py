"""What a plan says of rows, steps and time, from the metrics of prepared rows of this version and of earlier ones."""

from pathlib import Path
from platform import node
from typing import Any

import pytest
from tests.cost_models import LLAMA_32_3B, settings

from sft_runner.config.run import Run
from sft_runner.config.schema import Config
from sft_runner.cost.fitting import solve
from sft_runner.cost.parameters import active
from sft_runner.disk import write_json
from sft_runner.facts import Known, facts
from sft_runner.fingerprint import Ingredients
from sft_runner.planning import Step
from sft_runner.store import Store

ROWS = {"rows": 1000, "rows_per_step": 16, "efficiency": 0.97, "padded_efficiency": 0.5}
PACKS = {"length": 1024, "packs": 250, "rows": 1000, "efficiency": 0.99, "rows_per_pack": 4.0, "padded_efficiency": 0.2}
"""The same of rows that an earlier version prepared, with packs over all rows."""


def told(config: Config, folder: Path, packing: dict[str, Any] | None, arch: Any = LLAMA_32_3B) -> dict[str, str]:
    """The facts by their names; rows of 200,000 tokens are prepared unless `packing` is None."""
    manifest = None if packing is None else {"metrics": {"packing": packing, "tokens": {"train": 200_000}}}
    steps = tuple(
        Step(stage, action, "ab", "", Ingredients(stage, 1, {}, {}, "", ""), found)
        for stage, action, found in (("prepare", "cached" if manifest else "run", manifest), ("train", "run", None))
    )
    fitted = solve(config, arch) if arch else None
    found = facts(Run(config), Known(Store(folder), steps, arch, fitted))
    return dict(line.split(": ", 1) for line in found if ": " in line)


@pytest.mark.parametrize("metrics", [ROWS, PACKS], ids=["rows", "packs of an earlier version"])
@pytest.mark.parametrize("packing", [True, False])
def test_steps_are_those_of_the_rows(metrics: dict[str, Any], packing: bool, tmp_path: Path) -> None:
    config = settings(length=1024)
    config.train.packing = packing
    rows = told(config, tmp_path, metrics)["rows"]
    assert rows == "up to 1,024 tokens; 1,000 to learn from, 200,000 tokens; 189 steps"  # 3 x 63


@pytest.mark.parametrize(
    ("packing", "kernel", "expected"),
    [
        (True, None, "16 rows a step in passes of up to 4 x 1,024 tokens, rows of similar length together"),
        (True, "flash_attention_2", "16 rows a step in passes of up to 4 x 1,024 tokens, without padding"),
        (False, None, "16 rows a step = micro-batch 4 x accumulation 4"),
    ],
)
def test_how_a_step_goes_through_the_model(packing: bool, kernel: str | None, expected: str, tmp_path: Path) -> None:
    config = settings(length=1024, per_device_train_batch_size=4, attn_implementation=kernel)
    config.train.packing = packing
    assert told(config, tmp_path, ROWS)["batch"] == expected
    config.hardware.per_device_train_batch_size = None
    assert told(config, tmp_path, ROWS)["batch"] == "16 rows a step"


def test_time_needs_the_rows_and_a_speed(tmp_path: Path) -> None:
    card, unknown = settings(tflops=100.0), settings()
    assert told(card, tmp_path, None)["time"] == "known once the rows are prepared"
    assert told(card, tmp_path, None, arch=None)["time"] == "known once the model is here"
    assert told(card, tmp_path, ROWS)["time"].endswith("(rough)")
    for packing in (None, ROWS):
        assert told(unknown, tmp_path, packing)["time"] == "not known: nothing like it has run on this machine yet"


def test_time_is_that_of_the_tokens(tmp_path: Path) -> None:
    """Of 62 whole steps and one of 8 rows in each epoch; a speed of 1,000 tokens a second was measured."""
    measured = {"tokens_per_second": 1000.0, "total_parameters": active(LLAMA_32_3B)}
    counted = {"hardware.dtype": "bfloat16", "quantization.bits": "none"}
    folder = tmp_path / "stages/train/ab"
    folder.mkdir(parents=True)
    write_json(folder / "manifest.json", {"host": node(), "seconds": 1.0, "config": counted, "metrics": measured})
    config = settings()
    assert told(config, tmp_path, None)["time"] == "known once the rows are prepared"
    assert told(config, tmp_path, ROWS)["time"].startswith("≈ 10 min: train 10 min")
    config.train.max_steps = 21
    assert told(config, tmp_path, ROWS)["time"].startswith("≈ 67 s: train 67 s")
