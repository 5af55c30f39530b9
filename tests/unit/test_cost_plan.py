"""What a plan says of memory, disk, time and price, and when it says that it does not know."""

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from platform import node
from subprocess import run as start
from typing import Any

import pytest
from tests.cost_models import LLAMA_2_7B, LLAMA_31_8B, QWEN_25_7B, settings

from sft_runner import load, plan
from sft_runner.cost import duration, table
from sft_runner.cost.disk import Disk, disk, free
from sft_runner.cost.duration import Estimate, made_with, stage_time, training_flops, training_time
from sft_runner.cost.fitting import least, solve
from sft_runner.cost.parameters import active, adapter_parameters, parameters
from sft_runner.errors import UserError
from sft_runner.planning import Plan

TOKENS = 1_000_000


def planned(*words: str) -> Plan:
    return plan(load("recipe=quickstart", *words))


def test_a_plan_shows_memory_disk_and_time(tmp_path: Path) -> None:
    words = ["hardware=rtx3060", "model=qwen2.5-1.5b", f"output_dir={tmp_path}"]
    short, long = str(planned(*words)), str(planned(*words, "dry_run=true"))
    assert re.search(r"memory: ≈ \d+\.\d of 12\.9 GB for rows of 1,024 tokens: weights 1\.\d", short)
    assert "memory while training, ≈ GB (" in long
    for part in ("weights", "gradients", "optimizer states", "activations", "output head", "CUDA", "together"):
        assert part in long
    for text in (short, long):
        assert re.search(r"disk: ≈ .* free", text)
        assert re.search(r"time: ≈ .*: train .* \(at most, rough\), prepare not known", text)
        assert "; at most 2,001 to learn from; at most 504 steps" in text
        assert re.search(r"batch: 16 rows a step in passes of up to \d+ x 1,024 tokens, rows of similar length", text)
    padded = str(planned(*words, "train.packing=false"))
    assert re.search(r"batch: 16 rows a step = micro-batch \d+ x accumulation \d+", padded)


def test_workers_get_what_was_settled(tmp_path: Path) -> None:
    found = planned("hardware=h200", "model=qwen2.5-1.5b", f"output_dir={tmp_path}")
    hardware = found.run.config.hardware
    assert hardware.per_device_train_batch_size is not None
    assert hardware.activation_checkpointing in ("none", "selective", "full")
    keys = [decision.key for decision in found.run.decisions]
    assert "hardware.per_device_train_batch_size" in keys
    assert plan(found.run).run.config == found.run.config


def test_a_plan_that_is_made_again(tmp_path: Path) -> None:
    """As after a download: from what was asked for, and without saying anything twice."""
    found = planned("hardware=h200", "model=qwen3-30b-a3b", "method=qlora", f"output_dir={tmp_path}")
    assert found.asked is not None
    assert found.asked.config.hardware.per_device_train_batch_size is None
    for again in (plan(found.asked), plan(found.run)):
        assert again.run.warnings == found.run.warnings
    assert plan(found.asked).run == found.run


def test_a_model_that_nothing_is_known_of(tmp_path: Path) -> None:
    found = planned("hardware=rtx4090", "model.name=nobody/nothing", f"output_dir={tmp_path}")
    assert table.UNKNOWN in str(found)
    assert found.run.config.hardware.activation_checkpointing == "auto"  # settled once the model is here


def test_nothing_is_refused_where_nothing_trains(tmp_path: Path) -> None:
    words = ["hardware=minimal", "model=qwen2.5-7b", "method=full", f"output_dir={tmp_path}"]
    assert "memory" not in str(planned(*words, "stage=prepare"))
    with pytest.raises(UserError, match="does not fit hardware=minimal"):
        planned(*words, "stage=train")


def test_warnings_are_shown(tmp_path: Path) -> None:
    found = planned("hardware=h200", "model=qwen3-30b-a3b", "method=qlora", f"output_dir={tmp_path}")
    assert any("experts" in warning for warning in found.run.warnings)
    assert "  warning: " in str(found)
    assert found.to_json()["warnings"] == list(found.run.warnings)


def test_the_cpu_is_warned_of_what_is_too_large() -> None:
    config = settings("full", memory_gb=0.0, dtype="float32")
    needed = least(config, LLAMA_31_8B)
    told = list(table.warnings(config, needed, None, None, 0))
    assert any("this machine has" in warning for warning in told) == (needed.memory.total > table.room(config))


def test_a_full_disk_is_warned_of() -> None:
    config, needed = settings(), Disk(trained=10**9, checkpoints=10**10, merged=2 * 10**10)
    assert needed.most == 21 * 10**9
    assert list(table.warnings(config, None, None, needed, 22 * 10**9)) == []
    assert "20" not in (told := next(table.warnings(config, None, None, needed, 5 * 10**9)))
    assert "21.0 GB" in told


def test_disk_of_an_adapter() -> None:
    config = settings()
    found = disk(config, LLAMA_31_8B, merges=True)
    weights = 4 * adapter_parameters(config.lora, LLAMA_31_8B)
    assert found.trained == weights
    assert found.merged == 2 * 8_030_261_248
    assert found.checkpoints == pytest.approx(3 * 3 * weights, rel=0.01)  # weights and two states, two kept and one new
    assert disk(config, LLAMA_31_8B, merges=False).merged == 0


def test_disk_of_a_base_that_is_not_here() -> None:
    here, away = (disk(settings(), LLAMA_31_8B, merges=True, fetches=fetches) for fetches in (False, True))
    assert away.most - here.most == away.download == 2 * 8_030_261_248
    assert "download 16.1 GB" in table.disk_line(away, 0)


def test_disk_of_a_whole_model() -> None:
    found = disk(settings("full"), LLAMA_31_8B, merges=True)
    assert found.trained == found.merged == 2 * 8_030_261_248
    assert found.checkpoints == pytest.approx(3 * 12 * 8_030_261_248, rel=0.01)


def test_free_space_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert free(tmp_path / "a/b/c") == pytest.approx(free(tmp_path), rel=0.01)


def test_operations_of_a_token() -> None:
    """The rule of 6 N for all weights and 4 N for an adapter, and half as much again of the forward pass."""
    short = settings("full", length=1)
    weights = parameters(LLAMA_2_7B).total
    assert training_flops(short, LLAMA_2_7B, "none") == pytest.approx(6 * weights, rel=0.03)
    assert training_flops(settings("lora", length=1), LLAMA_2_7B, "none") == pytest.approx(4 * weights, rel=0.04)
    for method, more in (("full", 4 / 3), ("lora", 3 / 2)):
        config = settings(method, length=2048)
        once = training_flops(config, LLAMA_2_7B, "none")
        assert training_flops(config, LLAMA_2_7B, "full") == pytest.approx(more * once, rel=0.01)
        assert once < training_flops(config, LLAMA_2_7B, "selective") < training_flops(config, LLAMA_2_7B, "full")


def earlier(**changed: Any) -> dict[str, Any]:
    """The manifest of a training of a model of the same size on this machine."""
    measured = {"tokens_per_second": 500.0, "total_parameters": active(QWEN_25_7B)}
    config = {"hardware.dtype": "bfloat16", "quantization.bits": "none"}
    made = made_with(settings())
    return {"host": node(), "seconds": 1.0, "config": config, "metrics": measured, "made_with": made, **changed}


def test_time_from_an_earlier_run() -> None:
    found = training_time(settings(tflops=100.0), QWEN_25_7B, "none", TOKENS, [earlier()])
    assert found == Estimate(2000.0, measured=True)


def test_time_of_another_model_is_rough() -> None:
    """It is scaled by the parameters, and stands behind an older run of the same model."""
    other = earlier(made_with={**made_with(settings()), "model.name": "another/model"})
    other["metrics"] = {**other["metrics"], "tokens_per_second": 1000.0}
    assert training_time(settings(), QWEN_25_7B, "none", TOKENS, [other]) == Estimate(1000.0, measured=False)
    assert training_time(settings(), QWEN_25_7B, "none", TOKENS, [other, earlier()]) == Estimate(2000.0, measured=True)


@pytest.mark.parametrize(
    "manifest",
    [
        earlier(host="another"),
        earlier(config={"hardware.dtype": "float32", "quantization.bits": "none"}),
        earlier(config={"hardware.dtype": "bfloat16", "quantization.bits": "4"}),
        earlier(config={"hardware.dtype": "bfloat16", "quantization.bits": "none", "lora.use_dora": True}),
        earlier(metrics={}),
        earlier(made_with={"model.name": "", "hardware.name": "another"}),
        {},
    ],
)
def test_time_from_arithmetic_where_no_run_is_like_it(manifest: Mapping[str, Any]) -> None:
    config = settings(tflops=100.0)
    found = training_time(config, QWEN_25_7B, "none", TOKENS, [manifest])
    seconds = TOKENS * training_flops(config, QWEN_25_7B, "none") / (100e12 * duration.UTILISATION)
    assert found == Estimate(pytest.approx(seconds), measured=False)
    assert training_time(settings(), QWEN_25_7B, "none", TOKENS, [manifest]) is None


def test_time_of_other_stages_is_what_they_took_last() -> None:
    reads, config = {"config": {"evaluate.limit": 8}, "data": "ab"}, settings()
    same, other = earlier(**reads), earlier(seconds=7.0, config={"evaluate.limit": 200}, data="ab")
    assert stage_time(config, reads, [earlier(host="another"), other, same]) == Estimate(1.0, measured=True)
    assert stage_time(config, reads, [other]) == Estimate(7.0, measured=False)
    config.model.name = "another/model"
    assert stage_time(config, reads, [same]) is None
    assert stage_time(config, reads, []) is None


@pytest.mark.parametrize(("seconds", "said"), [(0.2, "1 s"), (61.0, "61 s"), (720.0, "12 min"), (12_600.0, "3.5 h")])
def test_times_in_words(seconds: float, said: str) -> None:
    assert duration.told(seconds) == said


def test_time_and_price_in_one_line() -> None:
    config, train = settings(price_per_hour=1.5), Estimate(7200.0, False)
    line = table.time_line(config, {"prepare": None, "train": train, "merge": Estimate(60.0, True)})
    assert line == "time: ≈ 2.0 h: train 2.0 h (rough), merge 60 s, prepare not known; price at least ≈ 3.02"
    assert table.time_line(config, {"train": train}).endswith("(rough); price ≈ 3.00")
    assert table.time_line(config, {"train": replace(train, bound=True)}).endswith(
        "(at most, rough); price up to ≈ 3.00"
    )
    assert table.time_line(config, {"merge": Estimate(1.0, True)}).endswith("; price < 0.01")
    assert "price" not in table.time_line(config, {"train": None, "merge": Estimate(60.0, True)})


def test_time_that_waits_for_rows() -> None:
    line = table.time_line(settings(), {"prepare": Estimate(60.0, True), "train": None, "merge": None}, "it rains")
    assert line == "time: ≈ 60 s: prepare 60 s, train known once it rains, merge not known"
    assert table.time_line(settings(), {"train": None, "merge": None}, "it rains") == "time: known once it rains"
    assert table.time_line(settings(), {"train": None}).endswith("nothing like it has run on this machine yet")


def test_price_needs_a_time() -> None:
    assert "price" not in table.time_line(settings(price_per_hour=1.5), {"train": None})


def test_parts_add_up_to_the_sum() -> None:
    config = settings("lora", "4", memory_gb=24.0)
    found = solve(config, QWEN_25_7B)
    assert found is not None
    *_, last = lines = list(table.memory_table(config, found))
    numbers = [float(line.split()[-1]) for line in lines[1:-1]]
    assert sum(numbers) == pytest.approx(float(last.split()[1]), abs=0.05)
    assert last.endswith("of 24.0 GB")


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from sft_runner.cost import survey, settling, table, disk, duration;"
        "print([name for name in ('torch', 'transformers', 'peft', 'trl', 'datasets') if name in sys.modules])"
    )
    assert start([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
