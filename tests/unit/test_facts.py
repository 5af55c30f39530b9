"""What a plan says of rows, steps and time, from the metrics of prepared rows of this version and of earlier ones."""

from pathlib import Path
from platform import node
from typing import Any

import pytest
from tests.cost_models import LLAMA_32_3B, settings

from sft_runner.config.run import Decision, Run
from sft_runner.config.schema import Config
from sft_runner.cost.duration import made_with
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


STEP = Step("prepare", "cached", "ab", "", Ingredients("prepare", 1, {}, {}, "", ""), None)


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
    assert told(card, tmp_path, None)["time"].endswith("(at most, rough), prepare not known")
    assert told(card, tmp_path, None, arch=None)["time"] == "known once the model is here"
    assert told(card, tmp_path, ROWS)["time"].endswith("(rough)")
    for packing in (None, ROWS):
        assert told(unknown, tmp_path, packing)["time"] == "not known: nothing like it has run on this machine yet"
    card.data.overlong = "split"  # a row may become several
    assert told(card, tmp_path, None)["time"] == "known once the rows are prepared"
    assert told(card, tmp_path, None)["rows"] == "up to 2,048 tokens"


def test_steps_are_bounded_before_rows_are_prepared(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(f'{{"prompt": "a{i}", "completion": "b"}}\n' for i in range(99)))
    config = settings()
    config.data.path = str(data)
    assert told(config, tmp_path, None)["rows"] == "up to 2,048 tokens; at most 100 to learn from; at most 21 steps"
    config.data.limit = 32
    assert told(config, tmp_path, None)["rows"] == "up to 2,048 tokens; at most 32 to learn from; at most 6 steps"
    config.train.max_steps = 5
    config.data.overlong = "split"
    assert told(config, tmp_path, None)["rows"] == "up to 2,048 tokens; at most 5 steps"


def test_a_long_list_is_told_in_short(tmp_path: Path) -> None:
    names = ["q_proj", "k_proj", "v_proj", "o_proj"]
    decided = Decision("lora.target_modules", names, "the adapter of train.continue_from")
    lines = facts(Run(settings(), decisions=(decided,)), Known(Store(tmp_path), (STEP,), None, None))
    assert "  lora.target_modules=[q_proj, k_proj and 2 more]" in "\n".join(lines)


def test_time_is_that_of_the_tokens(tmp_path: Path) -> None:
    """Of 62 whole steps and one of 8 rows in each epoch; a speed of 1,000 tokens a second was measured."""
    config = settings()
    measured = {"tokens_per_second": 1000.0, "total_parameters": active(LLAMA_32_3B)}
    counted = {"hardware.dtype": "bfloat16", "quantization.bits": "none"}
    manifest = {"host": node(), "seconds": 1.0, "config": counted, "metrics": measured, "made_with": made_with(config)}
    folder = tmp_path / "stages/train/ab"
    folder.mkdir(parents=True)
    write_json(folder / "manifest.json", manifest)
    assert told(config, tmp_path, ROWS)["time"].startswith("≈ 10 min: train 10 min")
    config.train.max_steps = 21
    assert told(config, tmp_path, ROWS)["time"].startswith("≈ 67 s: train 67 s")
