"""What was left open is filled in, with its reason; precedence is what the documentation says."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sft_runner import load
from sft_runner.config import sources
from sft_runner.config.run import Run
from sft_runner.errors import UserError, UserErrors


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    sources.recipes.cache_clear()


def reasons(run: Run) -> dict[str, str]:
    return {decision.key: decision.reason for decision in run.decisions}


def approximated(run: Run) -> set[str]:
    return {decision.key for decision in run.decisions if decision.approximates}


def test_rtx3060_means_an_adapter_on_an_8_bit_base() -> None:
    run = load("recipe=code", "hardware=rtx3060")
    assert run.config.quantization.bits == "8"
    assert run.config.hardware.per_device_train_batch_size == 1
    assert run.config.data.max_length == 1024
    assert approximated(run) == {"quantization.bits", "data.max_length", "hardware.dtype", "hardware.optim"}


def test_a_method_beats_the_preset_and_the_command_line_beats_both() -> None:
    assert load("recipe=code", "hardware=rtx3060", "method=qlora").config.quantization.bits == "4"
    run = load("recipe=code", "hardware=rtx3060", "method=qlora", "quantization.bits=none")
    assert run.config.quantization.bits == "none"
    assert "quantization.bits" not in approximated(run)


def test_minimal_lowers_the_rank_unless_it_is_set() -> None:
    run = load("recipe=code", "hardware=minimal")
    assert (run.config.lora.r, run.config.lora.lora_alpha) == (4, 8.0)
    assert "lora.r" in approximated(run)
    assert load("recipe=code", "hardware=minimal", "lora.r=16").config.lora.r == 16


def test_alpha_follows_the_rank_unless_it_is_set() -> None:
    assert load("recipe=code", "hardware=cpu", "lora.r=32").config.lora.lora_alpha == 64
    assert load("recipe=code", "hardware=cpu", "lora.r=32", "lora.lora_alpha=5").config.lora.lora_alpha == 5


def test_a_cap_only_lowers() -> None:
    run = load("recipe=code", "hardware=a100", "data.max_length=128")
    assert run.config.data.max_length == 128
    assert "data.max_length" not in reasons(run)


def test_every_filled_in_value_has_a_reason() -> None:
    run = load("recipe=code", "hardware=auto")
    assert {"hardware", "quantization.bits", "lora.r", "lora.lora_alpha", "train.learning_rate"} <= set(reasons(run))
    assert all(reasons(run).values())


def test_users_own_recipes_and_groups_come_first(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "quickstart.yaml").write_text("lora: {r: 3}\n")
    (tmp_path / "recipes" / "mine.yaml").write_text("defaults: [quickstart, _self_]\ntrain: {batch_size: 5}\n")
    (tmp_path / "conf" / "hardware").mkdir(parents=True)
    (tmp_path / "conf" / "hardware" / "mybox.yaml").write_text("name: mybox\nmemory_gb: 8\n")
    (tmp_path / "conf" / "local").mkdir()
    (tmp_path / "conf" / "local" / "default.yaml").write_text("train: {seed: 9}\n")
    config = load("recipe=mine", "model=tiny", "data=dates", "hardware=mybox").config
    assert (config.lora.r, config.train.batch_size, config.hardware.name, config.train.seed) == (3, 5, "mybox", 9)
    assert load("recipe=mine", "model=tiny", "data=dates", "train.seed=1").config.train.seed == 1


def test_a_group_on_the_command_line_beats_the_recipes_choice() -> None:
    assert load("recipe=quickstart", "model=qwen2_5_1_5b_instruct").config.model.name.startswith("Qwen/")


def test_free_fields_of_the_trainer_pass_and_can_be_added_one_by_one() -> None:
    run = load("recipe=quickstart", "train.extra={adam_beta2: 0.95}")
    assert run.config.train.extra == {"adam_beta2": 0.95}
    assert load("recipe=quickstart", "+train.extra.adam_beta2=0.9").config.train.extra == {"adam_beta2": 0.9}


def test_the_run_is_named_after_its_recipe() -> None:
    assert load("recipe=quickstart").config.name == "quickstart"
    assert load("recipe=quickstart", "name=mine").config.name == "mine"


def test_errors_are_collected() -> None:
    with pytest.raises(UserErrors) as raised:
        load("recipe=quickstart", "lora.rr=4", "hardware=rtx306")
    assert len(raised.value.errors) == 2


def test_a_group_file_with_an_unknown_key_is_found(tmp_path: Path) -> None:
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "mine.yaml").write_text("# @package _global_\nlora: {rr: 4}\n")
    with pytest.raises(UserError, match=r"rr"):
        load("recipe=quickstart", "method=mine")
