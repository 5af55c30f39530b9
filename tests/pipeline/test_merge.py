"""The merged model is the trained one, for every kind of adapter; one that is not is never let through."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from merges import run, write_trained
from random_models import (
    text_row,
    tokenizer,
    write_adapter,
    write_model,
    write_prepared,
    write_rows,
)
from sft_runner.config.schema import Merge
from sft_runner.errors import StageFailed, UserError
from sft_runner.merging import loading, proof
from sft_runner.model.rows import first_rows

pytestmark = [
    # PEFT 0.21 asks transformers 5.23 for a property that has a new name
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    # PEFT says it of every adapter on a tied layer, and `merging` does what it asks for
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`"),
]
OF_TRAINING = f"{tokenizer().chat_template}{{# of training #}}"
"""Another template than the base's that writes the same."""
KINDS = {"lora": {}, "dora": {"use_dora": True}, "rslora": {"use_rslora": True}}


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.arange(64).reshape(2, 32)).logits


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("kind", KINDS)
def test_merged_is_base_with_adapter(tmp_path: Path, kind: str, family: str, tied: bool) -> None:
    base = write_model(tmp_path / "base", family, tied)
    write_adapter(tmp_path / "train", base, **KINDS[kind])
    proof = run(tmp_path, base).metrics
    plain = AutoModelForCausalLM.from_pretrained(base)
    before = logits(plain)
    expected = logits(PeftModel.from_pretrained(plain, tmp_path / "train/adapter").eval())
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merge/model")
    assert (expected - before).abs().max() > 1  # the adapter does something
    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=1e-4)
    assert merged.config.tie_word_embeddings is tied
    assert proof["difference"]["relative"] < 1e-5
    assert 0 < proof["difference"]["mean"] < proof["difference"]["max"] < 1e-3
    assert proof["difference"]["equal_greedy"] == 1
    assert proof["changed_modules"] == proof["adapted_modules"] == 14
    assert (proof["rows"], proof["positions"]) == (3, 3 + 6 + 9 + 3)
    assert (proof["merged_into"], proof["trained_on"]) == ("float32", "float32")
    assert json.loads((tmp_path / "merge/proof.json").read_text()) == proof


# PEFT then stores the embedding beside the adapter
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`")
@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_an_adapter_on_one_of_two_tied_layers_leaves_the_other(tmp_path: Path, target: str) -> None:
    base = write_model(tmp_path / "base", tied=True)
    write_adapter(tmp_path / "train", base, target_modules=[target])
    assert run(tmp_path, base).metrics["difference"]["relative"] < 1e-5
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merge/model")
    plain = AutoModelForCausalLM.from_pretrained(base)
    untouched = "lm_head" if target == "embed_tokens" else "model.embed_tokens"
    assert torch.equal(merged.get_submodule(untouched).weight, plain.get_submodule(untouched).weight)
    assert not torch.equal(merged.lm_head.weight, merged.model.embed_tokens.weight)
    assert merged.config.tie_word_embeddings is False


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_16_bit_base_keeps_its_precision(tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    base = write_model(tmp_path / "base", dtype=dtype)
    write_adapter(tmp_path / "train", base, size=0.02, **KINDS[kind])
    proof = run(tmp_path, base).metrics
    with safe_open(tmp_path / "merge/model/model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {dtype}  # noqa: SIM118
    assert proof["merged_into"] == str(dtype).removeprefix("torch.")
    assert 1e-5 < proof["difference"]["relative"] < 0.05
    assert proof["changed_modules"] == 14


def test_what_belongs_to_the_model_goes_along(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    # transformers loads such settings, but refuses to write them
    (base / "generation_config.json").write_text('{"do_sample": false, "temperature": 0.3, "eos_token_id": [259, 257]}')
    write_adapter(tmp_path / "train", base)
    run(tmp_path, base)
    model = tmp_path / "merge/model"
    carried = {"generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "LICENSE"}
    assert {file.name for file in model.iterdir()} == carried | {"config.json", "model.safetensors"}
    for name in carried:
        assert (model / name).read_bytes() == (base / name).read_bytes()
    assert "quantization_config" not in json.loads((model / "config.json").read_text())


def test_the_chat_template_of_training_goes_along(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    settings = base / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"chat_template": "of the base"}))
    (base / "chat_template.json").write_text('{"chat_template": "of the base"}')
    write_adapter(tmp_path / "train", base)
    write_prepared(tmp_path / "prepare", 3)
    (tmp_path / "prepare" / "chat_template.jinja").write_text(OF_TRAINING)
    run(tmp_path, base)
    model = tmp_path / "merge/model"
    assert AutoTokenizer.from_pretrained(model).chat_template == OF_TRAINING
    assert not [file for file in model.iterdir() if b"of the base" in file.read_bytes()]
    before, after = (json.loads((folder / "tokenizer_config.json").read_text()) for folder in (base, model))
    assert after == {name: value for name, value in before.items() if name != "chat_template"}


def test_texts_and_code_to_fill_in_prove_it_too(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    write_adapter(tmp_path / "train", base)
    rows = [text_row("once upon a time"), text_row("return 1", 2, prompt="def f():")]
    write_rows(tmp_path / "prepare", rows, rows)
    proof = run(tmp_path, base, held_out=None).metrics
    assert proof["difference"]["relative"] < 1e-5
    assert (proof["rows"], proof["positions"]) == (2, 16 + 9)


@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_one_wrong_tensor_is_found(tmp_path: Path, factor: float) -> None:
    base = write_model(tmp_path / "base")
    write_adapter(tmp_path / "train", base)
    run(tmp_path, base)
    rows = first_rows(tmp_path / "prepare/held_out.arrow", 3)
    expected = proof.answer_logits(loading.load_adapted(base, tmp_path / "train/adapter"), rows)
    weights = tmp_path / "merge/model/model.safetensors"
    assert proof.verify(weights.parent, expected, rows).relative < 1e-5
    tensors = load_file(weights)
    tensors["model.layers.1.mlp.down_proj.weight"] *= factor
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(StageFailed, match=r"on 3 rows its logits differ by up to .* \(0.0001 is allowed in float32\)"):
        proof.verify(weights.parent, expected, rows)


def test_the_tolerance_is_a_setting(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    write_adapter(tmp_path / "train", base)
    with pytest.raises(StageFailed, match="1e-12 is allowed") as caught:
        run(tmp_path, base, merge=Merge(tolerance=1e-12))
    assert "merge.tolerance" in caught.value.hint


def test_a_tolerance_that_is_looser_than_usual_is_told(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    write_adapter(tmp_path / "train", base)
    notes = run(tmp_path, base, merge=Merge(tolerance=1e-3)).notes
    assert [note for note in notes if "merge.tolerance=0.001 allows more than the 0.0001 that is usual" in note]


def test_an_adapter_of_zeros_changes_nothing(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    write_adapter(tmp_path / "train", base, size=0.0)
    proof = run(tmp_path, base).metrics
    assert (proof["adapted_modules"], proof["changed_modules"], proof["difference"]["max"]) == (14, 0, 0)


def test_an_adapter_lost_in_rounding_is_found(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", dtype=torch.bfloat16)
    write_adapter(tmp_path / "train", base, size=1e-12)
    with pytest.raises(StageFailed, match=r"none of the 14 adapted modules.* one rounding step of bfloat16"):
        run(tmp_path, base)


def test_an_adapter_that_is_not_finite_is_found(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    write_adapter(tmp_path / "train", base, size=float("inf"))
    with pytest.raises(StageFailed, match="not finite"):
        run(tmp_path, base)


def test_a_base_that_is_stored_quantized_is_refused(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    write_adapter(tmp_path / "train", base)
    config = json.loads((base / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"model\.name: the weights in .* are stored quantized"):
        run(tmp_path, base)


def test_without_held_out_rows_training_rows_prove_it(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    write_adapter(tmp_path / "train", base)
    assert run(tmp_path, base, held_out=0, merge=Merge(verify_rows=4)).metrics["rows"] == 4


# --- trained whole --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_model_that_was_trained_whole_is_carried_over(tmp_path: Path, tied: bool, dtype: torch.dtype) -> None:
    base = write_model(tmp_path / "base", tied=tied, dtype=dtype)
    write_trained(tmp_path / "train", base, max_shard_size="20KB")
    done = run(tmp_path, base, adapter="none")
    proof = done.metrics
    assert any(note.endswith("nothing proves that what it wrote is what it trained") for note in done.notes)
    model = tmp_path / "merge/model"
    shards = sorted(path.name for path in model.glob("*.safetensors"))
    assert len(shards) > 1
    for name in [*shards, "model.safetensors.index.json", "config.json"]:
        assert (model / name).read_bytes() == (tmp_path / "train/model" / name).read_bytes()
        assert (model / name).stat().st_ino != (tmp_path / "train/model" / name).stat().st_ino  # no one edits both
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json", "LICENSE"):
        assert (model / name).read_bytes() == (base / name).read_bytes()
    expected = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "train/model", dtype="auto"))
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(model, dtype="auto")), expected)
    assert proof["difference"]["max"] == 0
    assert proof["changed_modules"] == proof["adapted_modules"] == (20 if tied else 21)
    assert (proof["merged_into"], proof["trained_on"]) == (str(dtype).removeprefix("torch."), "float32")


def test_the_chat_template_of_training_is_not_written_into_what_train_left(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    write_trained(tmp_path / "train", base)
    write_prepared(tmp_path / "prepare", 3)
    (tmp_path / "prepare" / "chat_template.jinja").write_text(OF_TRAINING)
    before = {path.name: path.read_bytes() for path in (tmp_path / "train/model").iterdir()}
    run(tmp_path, base, adapter="none")
    assert {path.name: path.read_bytes() for path in (tmp_path / "train/model").iterdir()} == before
    assert AutoTokenizer.from_pretrained(tmp_path / "merge/model").chat_template == OF_TRAINING


@pytest.mark.parametrize("prefix", ["model.", ""], ids=["own names", "other names"])
def test_training_that_changed_nothing_is_found(tmp_path: Path, prefix: str) -> None:
    """Also where the base's files name the weights without the part of the model they are in, as GPT-2's do."""
    base = write_model(tmp_path / "base", dtype=torch.bfloat16)
    write_trained(tmp_path / "train", base, size=0.0)
    tensors = load_file(base / "model.safetensors")
    named = {name.replace("model.", prefix, 1): tensor for name, tensor in tensors.items()}
    save_file(named, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StageFailed, match=r"changed none of the 21 tensors.* one rounding step of bfloat16") as raised:
        run(tmp_path, base, adapter="none")
    assert "train.learning_rate" in raised.value.hint


def test_every_stored_precision_has_a_tolerance(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", dtype=torch.float64)
    write_adapter(tmp_path / "train", base)
    assert run(tmp_path, base).metrics["merged_into"] == "float64"
