"""Every proof of the merge stage fails where it must, and its first words say which one it was."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from merges import keep, run, scale, then, write_trained
from random_models import SHAPE, random_model, tokenizer, write_adapter, write_model, write_prepared
from sft_runner.errors import StageFailed
from sft_runner.merging import proof

pytestmark = [
    # PEFT 0.21 asks transformers 5.23 for a property that has a new name
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    # PEFT says it of every adapter on a tied layer, and `merging` does what it asks for
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`"),
]
ADAPTED, PLAIN = "model.layers.1.mlp.down_proj.weight", "model.layers.0.input_layernorm.weight"


def fails(tmp_path: Path, base: Path, match: str, **named: Any) -> StageFailed:
    """Run the stage, which must fail in this way."""
    shutil.rmtree(tmp_path / "merge", ignore_errors=True)
    with pytest.raises(StageFailed) as caught:
        run(tmp_path, base, **named)
    assert re.match(match, caught.value.message), caught.value.message
    assert not (tmp_path / "merge/proof.json").exists()
    return caught.value


@pytest.mark.parametrize("kind", [{}, {"use_dora": True}], ids=["lora", "dora"])
@pytest.mark.parametrize("name", [ADAPTED, PLAIN, "lm_head.weight"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_tensor_that_is_off_by_one_percent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, name: str, kind: dict[str, Any]
) -> None:
    base = write_model(tmp_path / "base", dtype=dtype)
    write_adapter(tmp_path / "train", base, size=0.02, **kind)
    found = run(tmp_path, base).metrics["weights"]
    assert (found["tensors"], found["changed"], found["converted"]) == (21, 14, 0)
    assert found["steps"] <= (0.0 if dtype == torch.float32 else 1.0)
    then(monkeypatch, scale(name, 1.01))
    why = r"it differs from base and adapter by [\d.e+]+ rounding steps" if name == ADAPTED else "it has no adapter and"
    fails(tmp_path, base, rf"proof of the weights: {re.escape(name)}: {why}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_tensor_of_a_model_that_was_trained_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    base = write_model(tmp_path / "base", tied=True, dtype=dtype)
    write_trained(tmp_path / "train", base, max_shard_size="20KB")
    assert run(tmp_path, base, adapter="none").metrics["weights"] == {
        "tensors": 20,
        "changed": 20,
        "steps": 0.0,
        "converted": 0,
    }
    then(monkeypatch, scale(PLAIN, 1.01))
    fails(tmp_path, base, rf"proof of the weights: {PLAIN}: it differs from what training wrote", adapter="none")


def test_a_value_that_is_not_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_model(tmp_path / "base", dtype=torch.bfloat16)
    write_adapter(tmp_path / "train", base, size=0.02)
    then(monkeypatch, scale(ADAPTED, float("nan")))
    fails(tmp_path, base, f"proof of the weights: {ADAPTED}: it differs from base and adapter by nan")


def test_a_tokenizer_with_another_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_model(tmp_path / "base")
    write_adapter(tmp_path / "train", base)
    other = str(tokenizer().chat_template).replace("<|im_start|>assistant", "<|im_start|>model")
    then(monkeypatch, lambda folder: (folder / "chat_template.jinja").write_text(other) and None)
    error = fails(tmp_path, base, r"proof of the prompts: row rows\.jsonl:1: the served prompt is not the trained one")
    assert "force=[merge]" in error.hint


@pytest.mark.parametrize("whole", [False, True], ids=["adapter", "whole"])
@pytest.mark.parametrize("fault", ["missing", "cut off", "without a tensor"])
def test_a_shard_that_is_not_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, whole: bool) -> None:
    base = write_model(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    (base / "model.safetensors").unlink()
    model.save_pretrained(base, max_shard_size="50KB")
    if whole:
        write_trained(tmp_path / "train", base, max_shard_size="50KB")
    else:
        write_adapter(tmp_path / "train", base)

    def damage(folder: Path) -> None:
        shard = folder / json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"][ADAPTED]
        if fault == "missing":
            shard.unlink()
        elif fault == "cut off":
            shard.write_bytes(shard.read_bytes()[:-8])
        else:
            tensors = load_file(shard)
            del tensors[ADAPTED]
            save_file(tensors, shard, metadata={"format": "pt"})

    then(monkeypatch, damage)
    match = "proof of the files: the weights of the merged model are not complete: "
    error = fails(tmp_path, base, match, adapter="none" if whole else "lora")
    assert {"missing": "there is no model-0", "cut off": "cannot be read", "without a tensor": ADAPTED}[
        fault
    ] in error.message


@pytest.mark.parametrize("noise", [0.03, 1.0], ids=["a relative", "a stranger"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapter_of_another_base_of_the_same_shape(tmp_path: Path, dtype: torch.dtype, noise: float) -> None:
    """Nothing but what training kept can tell: each weight is the base's or the adapter's."""
    base = write_model(tmp_path / "base", dtype=dtype)
    write_adapter(tmp_path / "train", base, size=0.02)
    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(2)
    for value in model.parameters():
        value.data *= 1 + noise * torch.randn_like(value)
    keep(tmp_path, PeftModel.from_pretrained(model, tmp_path / "train/adapter"), dtype)
    fails(tmp_path, base, "proof of the training: what was written is not the model that was trained: on 3 rows")


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ({"hidden_size": 64}, r"size mismatch for .*proj"),
        ({"num_hidden_layers": 3}, r"the base has no layer for .*layers\.2\..* and 1 more"),
        ({"num_hidden_layers": 1}, r"it lacks .*layers\.1\..* and 1 more"),
    ],
    ids=["wider", "deeper", "less deep"],
)
def test_an_adapter_of_a_base_of_another_shape(tmp_path: Path, shape: dict[str, int], why: str) -> None:
    base = write_model(tmp_path / "base")
    LlamaForCausalLM(LlamaConfig(**SHAPE | shape)).save_pretrained(tmp_path / "other")
    write_adapter(tmp_path / "train", tmp_path / "other", target_modules=["q_proj"])
    fails(tmp_path, base, f"proof of the adapter: .*adapter_model.safetensors does not fit the base .*: {why}")


def test_an_older_training_that_kept_nothing_is_told(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    write_adapter(tmp_path / "train", base)
    found = run(tmp_path, base)
    assert "trained" not in found.metrics
    assert [note for note in found.notes if "kept no logits" in note]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("written", ["model", "adapter"])
def test_what_was_written_is_compared_with_what_training_kept(tmp_path: Path, written: str, dtype: torch.dtype) -> None:
    base, train = write_model(tmp_path / "base", dtype=dtype), tmp_path / "train"
    whole = written == "model"
    write_trained(train, base) if whole else write_adapter(train, base, size=0.02)
    trained = (
        AutoModelForCausalLM.from_pretrained(train / "model")
        if whole
        else PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), train / "adapter")
    )
    keep(tmp_path, trained.train(), dtype)
    assert trained.training
    found = run(tmp_path, base, adapter="none" if whole else "lora").metrics
    assert found["trained"]["relative"] < (1e-5 if dtype == torch.float32 else 0.1)
    file = train / written / ("model.safetensors" if whole else "adapter_model.safetensors")
    tensors = load_file(file)  # something went wrong between the trainer and the disk
    save_file({name: tensor.flip(-1).contiguous() for name, tensor in tensors.items()}, file, metadata={"format": "pt"})
    shutil.rmtree(tmp_path / "merge")
    with pytest.raises(StageFailed, match="proof of the training: what was written is not the model"):
        run(tmp_path, base, adapter="none" if whole else "lora")


def test_what_training_keeps_is_small(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    write_prepared(tmp_path / "prepare", 12)
    proof.keep(random_model(), tmp_path / "prepare", tmp_path / "train", torch.bfloat16)
    found = proof.kept(tmp_path / "train")
    assert found is not None
    assert [len(logits) for logits in found] == [4, 7, *[8] * 6]
    assert {logits.dtype for logits in found} == {torch.bfloat16}
