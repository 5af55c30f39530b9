"""What trains, and in which precision: whole models, earlier adapters, coarse adapters; and how it is measured."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import MambaConfig, MambaForCausalLM
from trl import SFTTrainer

from random_models import Reports, write_adapter
from sft_runner.config.schema import flatten
from sft_runner.config.sft_fields import check_extra
from sft_runner.errors import UserError
from sft_runner.training import assembly, trainer
from trainings import STEPS, digest, finish, killed, messages, settings, train, write_world, written
from trainings import processes as forked

pytestmark = pytest.mark.usefixtures("one_thread")

FULL: dict[str, Any] = {"adapter": "none", "train__learning_rate": 1e-3}


def test_a_whole_model(world: Path, tmp_path: Path) -> None:
    reports = Reports()
    result = train(world, tmp_path / "train", reports, train__eval_steps=0.5, **FULL)
    metrics, logged = result.metrics, written(tmp_path / "train")["logged"]
    assert metrics["loss"] < logged[0]["loss"] - 1
    assert metrics["trainable_parameters"] == metrics["total_parameters"]
    assert metrics["dtypes"] == {"model": "float32", "arithmetic": "float32"}
    assert any("in float32 with float32 arithmetic" in told for told in messages(reports))
    assert "model" not in result.artifacts  # too large to be copied into a tracker
    weights, base = (load_file(path / "model.safetensors") for path in (tmp_path / "train/model", world / "base"))
    assert weights.keys() == base.keys()
    assert all(weights[name].dtype == base[name].dtype for name in base)
    assert not torch.equal(weights["model.layers.0.mlp.up_proj.weight"], base["model.layers.0.mlp.up_proj.weight"])
    looks = written(tmp_path / "train")["evaluated"]
    assert looks[-1]["eval_loss"] < looks[0]["eval_loss"]


@pytest.mark.parametrize(
    ("changes", "dtypes"),
    [
        ({"hardware__dtype": "bfloat16"}, {"model": "float32", "arithmetic": "bfloat16"}),
        (
            {"hardware__dtype": "bfloat16", "hardware__trained_dtype": "bfloat16"},
            {"model": "bfloat16", "arithmetic": "bfloat16"},
        ),
    ],
    ids=["float32", "bfloat16"],
)
def test_a_whole_model_with_bfloat16_arithmetic(
    world: Path, tmp_path: Path, changes: dict[str, Any], dtypes: dict[str, str]
) -> None:
    result = train(world, tmp_path / "train", train__eval_steps=0.5, **FULL, **changes)
    logged = written(tmp_path / "train")["logged"]
    assert result.metrics["dtypes"] == dtypes
    assert result.metrics["loss"] < logged[0]["loss"] - 0.5


@pytest.mark.slow
@pytest.mark.parametrize("die_at", ["save:9", "written", "end"])
def test_a_whole_model_that_was_killed(world: Path, tmp_path: Path, die_at: str) -> None:
    context, folder = forked(), tmp_path / "train"
    train(world, tmp_path / "whole", **FULL)
    killed(context, world, folder, die_at, **FULL)
    finish(context, world, folder, {"save:9": 6, "written": 18, "end": None}[die_at], **FULL)
    assert digest(folder) == digest(tmp_path / "whole")


def test_an_adapter_in_bfloat16(world: Path, tmp_path: Path) -> None:
    changes = {"hardware__trained_dtype": "bfloat16", "lora__use_dora": True, "train__max_steps": 4}
    result = train(world, tmp_path / "train", hardware__dtype="bfloat16", **changes)
    assert result.metrics["dtypes"] == {"base": "bfloat16", "adapter": "bfloat16, float32"}  # DoRA's magnitudes


@pytest.mark.slow
def test_an_adapter_in_bfloat16_that_was_killed(world: Path, tmp_path: Path) -> None:
    context, folder = forked(), tmp_path / "train"
    changes = {"hardware__trained_dtype": "bfloat16", "hardware__dtype": "bfloat16"}
    train(world, tmp_path / "whole", **changes)
    killed(context, world, folder, "save:9", **changes)
    finish(context, world, folder, 6, **changes)
    assert written(folder)["metrics"]["dtypes"]["adapter"] == "bfloat16"
    assert digest(folder) == digest(tmp_path / "whole")


def test_an_earlier_adapter_goes_on(world: Path, tmp_path: Path) -> None:
    write_adapter(tmp_path / "earlier", world / "base")
    changes: dict[str, Any] = {"train__continue_from": str(tmp_path / "earlier"), "train__logging_steps": 1}
    reports = Reports()
    train(world, tmp_path / "train", reports, train__max_steps=1, train__learning_rate=0.0, **changes)
    one, other = (load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("train", "earlier"))
    assert one.keys() == other.keys()
    for name, weights in one.items():
        torch.testing.assert_close(weights, other[name], rtol=0, atol=0)
    result = train(world, tmp_path / "on", **changes)
    assert result.metrics["steps"] == STEPS
    assert digest(tmp_path / "on") != digest(tmp_path / "train")


def test_loraplus_learns_with_two_rates(world: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"lora__lora_dropout": 0.0, "train__max_steps": 4}
    train(world, tmp_path / "one", **changes)
    train(world, tmp_path / "two", train__loraplus_lr_ratio=4.0, **changes)
    assert digest(tmp_path / "one") != digest(tmp_path / "two")


def test_mfu() -> None:
    """By hand: 2 layers of width 8, 2 heads of 4, 16 between, 10 words, rows of 5 tokens."""
    from sft_runner.training.figures import mfu

    text = SimpleNamespace(
        hidden_size=8,
        num_hidden_layers=2,
        vocab_size=10,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=16,
    )
    layer = 2 * 8 * 24 + 2 * 8 * 8 + 4 * 8 * 5 + 2 * 3 * 8 * 16
    flops = 3 * (2 * layer + 2 * 10 * 8)
    config = SimpleNamespace(get_text_config=lambda: text)
    assert mfu(config, 1000.0, 5, flops * 4000.0) == 25.0
    assert mfu(SimpleNamespace(get_text_config=SimpleNamespace), 1000.0, 5, 1e12) is None


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("load_best_model_at_end", "train.load_best_model_at_end"),
        ("metric_for_best_model", "train.early_stopping.metric"),
        ("eval_steps", "train.eval_steps"),
        ("eval_strategy", "train.eval_steps"),
        ("activation_checkpointing_kwargs", "hardware.activation_checkpointing"),
    ],
)
def test_trls_own_names_lead_to_ours(field: str, key: str) -> None:
    (error,) = check_extra({field: 1})
    assert error.hint.startswith(f"use {key}")
    assert key in flatten(settings(Path()))


# --- how steps are fed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"train__logging_steps": 2.5}, {"train__lr_scheduler_type": "up_and_down"}])
def test_what_trl_refuses_is_told_before_a_model_is_loaded(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr(assembly, "load_trainable", lambda _: pytest.fail("the model was loaded"))
    with pytest.raises(UserError, match="TRL does not take these settings"):
        train(world, tmp_path / "train", **changes)


def test_a_model_with_a_memory_keeps_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where flash attention asks for flat passes."""
    shape = {"hidden_size": 32, "state_size": 4, "num_hidden_layers": 1, "initializer_range": 0.3}
    torch.manual_seed(0)
    MambaForCausalLM(MambaConfig(vocab_size=260, **shape)).save_pretrained(write_world(tmp_path) / "base")
    short = {**FULL, "train__max_steps": 1, "hardware__attn_implementation": "eager"}
    train(tmp_path, tmp_path / "rows", **short)
    monkeypatch.setattr(assembly, "is_flash_attention_requested", lambda **_: True)
    result = train(tmp_path, tmp_path / "flat", **short)
    assert result.notes[0].startswith("train.packing: rows stand side by side, because this model")
    assert digest(tmp_path / "flat") == digest(tmp_path / "rows")


def test_means_over_passes_weigh_each_token_once(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss that balances experts is such a mean."""
    shares: list[tuple[float, int]] = []
    real = SFTTrainer.training_step

    def step(self: Any, model: Any, inputs: Any, *more: Any) -> Any:
        tokens = int((inputs["input_ids"] != self.data_collator.padding).sum())
        shares.append((1 / self.current_gradient_accumulation_steps, tokens))
        return real(self, model, inputs, *more)

    monkeypatch.setattr(SFTTrainer, "training_step", step)
    train(world, tmp_path / "train", train__max_steps=1)
    assert len(shares) > 1
    tokens = sum(count for _, count in shares)
    assert [share for share, _ in shares] == pytest.approx([count / tokens for _, count in shares])


def test_large_passes_tell_no_accuracy_of_their_own(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU they alone go through TRL's loss, which measures by the way."""
    short = {"train__max_steps": 2, "train__logging_steps": 1}
    train(world, tmp_path / "plain", **short)
    monkeypatch.setattr(trainer, "MOST_LOGITS", 260 * 150)
    train(world, tmp_path / "large", **short)
    one, other = (written(tmp_path / name)["logged"] for name in ("plain", "large"))
    assert [entry["loss"] for entry in one] == pytest.approx([entry["loss"] for entry in other], abs=1e-4)
    assert not [entry for entry in other if "mean_token_accuracy" in entry]
