"""The largest micro-batch and the least checkpointing that fit a card, or what would fit in its place."""

import os
from dataclasses import replace
from typing import Any

import pytest
from tests.cost_models import LLAMA_32_3B, QWEN_25_7B, settings

from sft_runner.config.run import Run
from sft_runner.config.schema import Config
from sft_runner.cost.choices import choices
from sft_runner.cost.fitting import ENOUGH, MARGIN, MODES, least, remedies, room, solve
from sft_runner.cost.memory import training_memory
from sft_runner.cost.settling import alternatives, refusal, settled
from sft_runner.errors import UserError
from sft_runner.hardware import GB


@pytest.mark.parametrize("memory_gb", [8.0, 12.0, 16.0, 24.0, 48.0, 80.0, 140.0])
@pytest.mark.parametrize(("method", "bits"), [("lora", "none"), ("lora", "4"), ("dora", "8"), ("full", "none")])
def test_what_is_chosen_fits_and_nothing_better_does(memory_gb: float, method: str, bits: str) -> None:
    config = settings(method, bits, length=1024, memory_gb=memory_gb)
    found = solve(config, LLAMA_32_3B)
    allowed = memory_gb * GB * (1 - MARGIN)

    def fits(rows: int, mode: str) -> bool:
        return training_memory(config, LLAMA_32_3B, rows, mode, 1024).total <= allowed

    if found is None:
        assert not any(fits(1, mode) for mode in MODES)
        return
    assert found.memory.total <= allowed
    assert 16 % found.micro_batch == 0
    larger = [rows for rows in (1, 2, 4, 8, 16) if rows > found.micro_batch]
    assert not any(fits(rows, found.checkpointing) for rows in larger)
    enough = [mode for mode in MODES if any(fits(rows, mode) for rows in (2, 4, 8, 16))]  # 2 x 1,024 tokens
    assert found.checkpointing == (enough[0] if enough else found.checkpointing)


def test_a_given_size_is_a_cap() -> None:
    config = settings("lora", "4", per_device_train_batch_size=3)
    found = solve(config, LLAMA_32_3B)
    assert found is not None
    assert found.micro_batch == 2  # of 16 rows, three at once would leave one over
    assert found.checkpointing == "none"


def test_given_checkpointing_is_kept() -> None:
    found = solve(settings("lora", "4", activation_checkpointing="full"), LLAMA_32_3B)
    assert found is not None
    assert (found.micro_batch, found.checkpointing) == (16, "full")


def test_checkpointing_only_until_a_card_is_busy() -> None:
    found = solve(settings("lora", memory_gb=24.0, length=1024), LLAMA_32_3B)
    assert found is not None
    assert found.checkpointing == "none"
    assert found.micro_batch * 1024 >= ENOUGH


@pytest.mark.parametrize("packing", [True, False])
def test_packing_changes_no_micro_batch_of_a_part_of_a_step(packing: bool) -> None:
    """A pass holds as many tokens as the padded rows of full length would."""
    config = settings("lora", memory_gb=24.0, length=1024)
    config.train.packing = packing
    found = solve(config, LLAMA_32_3B)
    assert found is not None
    assert (found.micro_batch, found.checkpointing) == (2, "none")


def test_the_run_says_what_was_settled() -> None:
    run, found = settled(Run(settings("lora", "4", memory_gb=12.0)), LLAMA_32_3B)
    assert found is not None
    hardware = run.config.hardware
    assert (hardware.per_device_train_batch_size, hardware.activation_checkpointing) == (
        found.micro_batch,
        found.checkpointing,
    )
    decided = {decision.key: decision for decision in run.decisions}
    assert set(decided) == {"hardware.per_device_train_batch_size", "hardware.activation_checkpointing"}
    assert all("≈" in decision.reason or "without" in decision.reason for decision in decided.values())
    assert not any(decision.approximates for decision in decided.values())
    again, same = settled(run, LLAMA_32_3B)
    assert (again.config, same) == (run.config, found)


def test_a_shape_that_is_not_known() -> None:
    run, found = settled(Run(settings("lora", per_device_train_batch_size=4)), None)
    assert found is None
    assert run.config.hardware.per_device_train_batch_size == 4
    assert run.config.hardware.activation_checkpointing == "full"
    run, _ = settled(Run(settings("lora")), None)
    assert run.config.hardware.per_device_train_batch_size == 1


def test_the_cpu_is_never_refused() -> None:
    config = settings("full", memory_gb=0.0, dtype="float32", name="cpu")
    assert room(config) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    huge = replace(QWEN_25_7B, num_hidden_layers=2000)
    run, found = settled(Run(config), huge)
    assert found == least(config, huge)
    assert run.config.hardware.per_device_train_batch_size == 1


def test_a_refusal_names_what_would_fit() -> None:
    run = Run(settings("full", length=1024, name="rtx3060", memory_gb=12.9))
    with pytest.raises(UserError) as refused:
        settled(run, QWEN_25_7B)
    message, hint = refused.value.message, refused.value.hint
    assert "hardware=rtx3060" in message
    assert "≈" in message
    assert "weights 43.5" in message
    for words in ("method=qlora", "method=lora quantization.bits=8", "hardware=h200", "model=qwen2.5-"):
        assert words in hint
    assert "method=lora quantization.bits=none" not in hint  # 16-bit weights alone are 15 GB


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (settings("lora", name="a", memory_gb=12.9), "quantization.bits=4"),
        (settings("lora", "4", name="a", memory_gb=8.8, length=4096), "data.max_length=2048"),
        (
            settings("lora", "4", name="a", memory_gb=10.0, activation_checkpointing="none"),
            "activation_checkpointing=full",
        ),
        (settings("full", name="a", memory_gb=70.0), "hardware.trained_dtype=bfloat16"),
    ],
)
def test_every_alternative_really_fits(config: Config, words: str) -> None:
    assert solve(config, QWEN_25_7B) is None
    found = alternatives(config, QWEN_25_7B)
    assert any(words in option for option, _ in found)
    for option, _ in found:
        changed = applied(config, option)
        assert changed is None or solve(changed, QWEN_25_7B) is not None


def applied(config: Config, option: str) -> Config | None:
    """The configuration with plain overrides laid over it; None for other files."""
    if any(word.split("=")[0] in ("method", "hardware", "model") for word in option.split()):
        return None
    for word in option.split():
        key, value = word.split("=")
        part, name = key.split(".")
        typed: Any = value == "true" if value in ("true", "false") else int(value) if name == "max_length" else value
        config = replace(config, **{part: replace(getattr(config, part), **{name: typed})})
    return config


def test_nothing_fits_at_all() -> None:
    huge = replace(QWEN_25_7B, model_type="huge", num_hidden_layers=5000)
    assert "larger card" in refusal(Run(settings("lora", "4")), huge).hint


def test_remedies_in_the_order_of_their_cost() -> None:
    config = settings("lora", rows=8)
    config.lora.r = 16
    found = remedies(config, QWEN_25_7B)
    assert [words for words, _ in found] == [
        "quantization.bits=4",
        "data.max_length=1024",
        "hardware.per_device_train_batch_size=1",
        "hardware.activation_checkpointing=full",
        "lora.r=4",
    ]
    assert all(saved is not None and saved > 0 for _, saved in found)
    assert [saved for _, saved in remedies(config, None)] == [None] * 5


def test_remedies_that_are_used_up() -> None:
    config = settings("lora", "4", length=256, per_device_train_batch_size=1, activation_checkpointing="full")
    config.lora.r = 4
    assert remedies(config, QWEN_25_7B) == []


def test_remedies_of_a_whole_model() -> None:
    words = [words for words, _ in remedies(settings("full"), QWEN_25_7B)]
    assert words[:2] == ["hardware.optim=paged_adamw_8bit", "hardware.trained_dtype=bfloat16"]
    assert not any(word.startswith(("quantization", "lora")) for word in words)


def test_a_users_own_file_comes_first(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf/hardware").mkdir(parents=True)
    (tmp_path / "conf/hardware/rtx3060.yaml").write_text("name: rtx3060\nmemory_gb: 7\n")
    monkeypatch.chdir(tmp_path)
    choices.cache_clear()
    try:
        assert choices("hardware")["rtx3060"]["memory_gb"] == 7
        assert "h200" in choices("hardware")
    finally:
        choices.cache_clear()
