"""An adapter of a quantized base is merged into the base that suits it better; both are measured."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes import functional
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from merges import run, scale, then
from random_models import SHAPE, Reports, chat_row, write_adapter, write_model, write_rows
from sft_runner.config.schema import Merge
from sft_runner.errors import StageFailed
from sft_runner.merging.choice import _better
from sft_runner.model.rows import all_rows
from sft_runner.stages.merge import Merge as MergeStage
from trainings import settings, train

pytestmark = [
    # PEFT 0.21 asks transformers 5.23 for a property that has a new name
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast from:UserWarning"),  # LLM.int8 computes so
]


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose rows are whole blocks of 64 weights, with an adapter."""
    for name, width in {"hidden_size": 64, "intermediate_size": 128}.items():
        monkeypatch.setitem(SHAPE, name, width)
    folder = write_model(tmp_path / "base")
    write_adapter(tmp_path / "train", folder, size=0.02, target_modules=["q_proj", "down_proj"])
    return folder


def seen(weight: torch.Tensor, bits: str) -> torch.Tensor:
    """A weight as bitsandbytes holds it."""
    if bits == "4":
        return functional.dequantize_4bit(*functional.quantize_4bit(weight, compress_statistics=True, quant_type="nf4"))
    codes, scales, _ = functional.int8_vectorwise_quant(weight.half())
    return functional.int8_vectorwise_dequant(codes, scales)


def mean_loss(model: Any, prepared: Path) -> float:
    """Nats for each answer token of the held-out rows, one row at a time."""
    total = tokens = 0.0
    for row in all_rows(prepared / "held_out.arrow"):
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0, :-1]
        kept = labels[0, 1:] != -100
        total += torch.nn.functional.cross_entropy(logits[kept], labels[0, 1:][kept], reduction="sum").item()
        tokens += int(kept.sum())
    return total / tokens


@pytest.mark.parametrize("asked", ["auto", "original", "quantized"])
@pytest.mark.parametrize("bits", ["4", "8"])
def test_both_bases_are_measured_and_the_better_one_is_used(tmp_path: Path, base: Path, bits: str, asked: str) -> None:
    found = run(tmp_path, base, merge=Merge(base=asked), bits=bits)
    proof = found.metrics
    original = load_file(base / "model.safetensors")
    rounded = {name: seen(value, bits) if "proj" in name else value for name, value in original.items()}
    shutil.copytree(base, tmp_path / "rounded")
    save_file(rounded, tmp_path / "rounded/model.safetensors", metadata={"format": "pt"})
    merged, losses = {}, {}
    for name, folder in {"original": base, "quantized": tmp_path / "rounded"}.items():
        adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), tmp_path / "train/adapter")
        losses[name] = mean_loss(adapted.eval(), tmp_path / "prepare")
        merged[name] = adapted.merge_and_unload().state_dict()
    assert proof["candidates"]["original"]["loss"] == pytest.approx(losses["original"], rel=1e-5)
    assert proof["candidates"]["quantized"]["loss"] == pytest.approx(losses["quantized"], rel=1e-5)
    assert losses["original"] != pytest.approx(losses["quantized"], rel=1e-4)
    better = min(losses, key=losses.__getitem__) if asked == "auto" else asked
    assert proof["base"] == better
    written = load_file(tmp_path / "merge/model/model.safetensors")
    assert written.keys() == merged[better].keys()
    for name, value in written.items():
        torch.testing.assert_close(value, merged[better][name], rtol=0, atol=1e-7)
        if "proj" not in name:
            assert torch.equal(value, original[name])  # never the embedding, the norms or the head
    assert proof["weights"]["changed"] == (14 if better == "quantized" else 4)
    assert proof["trained_on"] == f"{bits}-bit"
    assert json.loads((tmp_path / "merge/proof.json").read_text()) == proof
    (note,) = [note for note in found.notes if note.startswith("merged into")]
    assert all(f"{loss:.4f}" in note for loss in losses.values())
    assert (f"merge.base={asked}" in note) is (asked != "auto")


def test_without_held_out_rows_it_is_what_was_trained(tmp_path: Path, base: Path) -> None:
    found = run(tmp_path, base, held_out=0, bits="4")
    assert (found.metrics["base"], found.metrics["candidates"]) == ("quantized", {})
    assert [note for note in found.notes if "no held-out row can tell" in note]


def test_of_equals_it_is_what_was_trained() -> None:
    def loss(original: float, quantized: float) -> dict[str, dict[str, float]]:
        return {"original": {"loss": original}, "quantized": {"loss": quantized}}

    assert [_better(loss(1.0, other)) for other in (0.9, 1.0, 1.1)] == ["quantized", "quantized", "original"]
    assert _better({}) == "quantized"


def test_a_weight_that_was_rounded_and_is_off(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no adapter reaches it."""
    then(monkeypatch, scale("model.layers.0.self_attn.v_proj.weight", 1.01))
    with pytest.raises(StageFailed, match=r"^proof of the weights: .*v_proj\.weight: it has no adapter"):
        run(tmp_path, base, merge=Merge(base="quantized"), bits="4")


def test_steps_are_told(tmp_path: Path, base: Path) -> None:
    reports = Reports()
    run(tmp_path, base, bits="4", reports=reports)
    steps = [(event["step"], event["steps"]) for event in reports if "step" in event]
    assert steps == [(step, 6) for step in range(7)]
    assert any("rounds the base to 4 bits" in event.get("message", "") for event in reports)


@pytest.mark.parametrize(("bits", "dtype"), [("4", "float32"), ("4", "bfloat16"), ("8", "float32")])
def test_the_rounded_base_is_the_one_that_training_saw(tmp_path: Path, base: Path, bits: str, dtype: str) -> None:
    """A real training keeps its logits; the adapter of a training on other weights does not pass for it."""
    shutil.rmtree(tmp_path / "train")
    rows = [chat_row("Say it " * (i % 5), "abc" * (i + 1), i + 1) for i in range(12)]
    write_rows(tmp_path / "prepare", rows, rows[:3])
    changes = {"quantization__bits": bits, "hardware__dtype": dtype, "train__num_train_epochs": 1}
    train(tmp_path, tmp_path / "train", **changes)
    inputs = {"prepare": tmp_path / "prepare", "train": tmp_path / "train"}

    def merged() -> Any:
        shutil.rmtree(tmp_path / "merge", ignore_errors=True)
        (tmp_path / "merge").mkdir()
        return MergeStage().execute(settings(tmp_path, **changes), inputs, tmp_path / "merge", Reports()).metrics

    found = merged()["trained"]
    assert found["same"]
    # in float32 it is the same arithmetic on the same bits; LLM.int8 rounds activations too
    assert found["max"] == 0 if (bits, dtype) == ("4", "float32") else found["kl"] < 0.03
    tensors = load_file(base / "model.safetensors")
    torch.manual_seed(3)
    other = {name: value * (1 + 0.2 * torch.randn_like(value)) for name, value in tensors.items()}
    save_file(other, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StageFailed, match="^proof of the training: what was written is not the model"):
        merged()
