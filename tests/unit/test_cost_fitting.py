"""The largest micro-batch and the least checkpointing that fit a card, or what would fit in its place."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.cost_models import LLAMA_32_3B, QWEN_25_7B, settings

from sft_runner import load, plan
from sft_runner.config.choices import choices
from sft_runner.config.run import Run
from sft_runner.config.schema import MODES
from sft_runner.cost.fitting import ENOUGH, MARGIN, least, machine, modes_of, remedies, room, solve
from sft_runner.cost.memory import training_memory
from sft_runner.cost.scoring import scoring_memory
from sft_runner.cost.settling import alternatives, refusal, scored, settled
from sft_runner.cost.survey import survey
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
    assert room(config) == machine()
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
    assert len(hint.splitlines()) == 5  # one for each kind of change


REFUSED = [
    ("model=phi4 hardware=rtx3060", "quantization.bits=4"),
    ("model=qwen2.5-7b hardware=rtx3060 method=full", "method=qlora"),
    ("model=qwen2.5-7b hardware=minimal method=dora quantization.bits=none", "model=qwen2.5-1.5b"),
    (
        "model=qwen2.5-7b hardware=l4 method=qlora data.max_length=8192 hardware.activation_checkpointing=none",
        "length=",
    ),
    ("model=qwen2.5-7b hardware=l4 hardware.memory_gb=16 lora.init_lora_weights=pissa", "model="),
]


@pytest.mark.parametrize(("command", "words"), REFUSED)
def test_every_offered_line_is_planned_behind_the_command(command: str, words: str, tmp_path: Path) -> None:
    """Through Hydra, as someone would type it."""
    said = ["data.path=embedded:dates", f"output_dir={tmp_path}", *command.split()]
    with pytest.raises(UserError) as refused:
        plan(load(*said))
    assert refused.value.hint.startswith("what would fit:")
    offered = [line.split("  from ")[0].strip() for line in refused.value.hint.splitlines()[1:]]
    assert any(words in line for line in offered)
    for line in offered:
        plan(load(*said, *line.split()))


def test_a_users_own_files_break_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {
        "hardware/mybox": "defaults: [rtx3060]\nmemory_gb: 13\n",
        "hardware/broken": "name: [",
        "hardware/strange": "memory_gb: lots\nwheels: 4\n",
        "hardware/circle": "defaults: [circle]\nmemory_gb: 30\n",
        "model/mine": "name: ./nowhere\n",
    }
    for name, text in own.items():
        path = tmp_path / f"conf/{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    known = choices("hardware")
    assert known["mybox"] == {**known["rtx3060"], "memory_gb": 13}
    assert not {"broken", "strange", "circle"} & set(known)
    found = [words for words, _ in alternatives(Run(settings(name="rtx3060", memory_gb=12.9)), QWEN_25_7B)]
    assert "model=qwen2.5-3b" in found or "model=qwen2.5-1.5b" in found
    (pair,) = survey(["mine"], ["mybox"], ["qlora"])
    assert pair.reason == "model"


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


def test_no_remedy_costs_memory() -> None:
    """On the CPU too, where the loss goes another way from some number of tokens on."""
    config = settings("lora", memory_gb=0.0, dtype="float32", optim="adamw_torch", per_device_train_batch_size=2)
    for length in (512, 1024, 2048, 4096):
        config.data.max_length = length
        found = remedies(config, QWEN_25_7B)
        assert found
        assert all(saved is not None and saved > 0 for _, saved in found)
    totals = [training_memory(config, QWEN_25_7B, 1, "full", length).total for length in range(256, 4096, 128)]
    assert totals == sorted(totals)


def test_selective_checkpointing_needs_a_kernel() -> None:
    gemma = replace(QWEN_25_7B, model_type="gemma2")
    assert "selective" in modes_of(settings(), QWEN_25_7B)
    assert (
        modes_of(settings(), gemma) == modes_of(settings(attn_implementation="eager"), QWEN_25_7B) == ("none", "full")
    )


def test_a_containers_limit_is_the_machines_memory(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text("1000000\n")
    assert machine(limit) == 1_000_000
    limit.write_text("max\n")
    assert machine(limit) == machine(tmp_path / "none") == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_rows_scored_at_once_are_those_that_fit() -> None:
    config = settings("lora", "4", memory_gb=12.0, per_device_eval_batch_size=64)
    run, needed = scored(Run(config), QWEN_25_7B)
    size = run.config.hardware.per_device_eval_batch_size
    assert size < 64
    assert needed == scoring_memory(config, QWEN_25_7B, size) <= room(config) < scoring_memory(config, QWEN_25_7B, 64)
    assert [decision.key for decision in run.decisions] == ["hardware.per_device_eval_batch_size"]
    assert scored(run, QWEN_25_7B) == (run, needed)
    small, needed = scored(Run(settings(memory_gb=6.0)), QWEN_25_7B)
    assert small.config.hardware.per_device_eval_batch_size == 1
    assert needed > room(small.config)


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
    assert choices("hardware")["rtx3060"]["memory_gb"] == 7
    assert "h200" in choices("hardware")
    (tmp_path / "conf/hardware/rtx3060.yaml").write_text("name: rtx3060\nmemory_gb: 8\n")
    assert choices("hardware")["rtx3060"]["memory_gb"] == 8
    monkeypatch.chdir("/")
    assert choices("hardware")["rtx3060"]["memory_gb"] > 8
