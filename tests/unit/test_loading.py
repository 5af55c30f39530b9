"""Base and adapter load from local safetensors, in the precision that was asked for, on the device of the preset."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt

from random_models import write_adapter, write_model
from sft_runner.config.schema import Config, Hardware, Model, Quantization
from sft_runner.errors import MachineError, UserError
from sft_runner.model import loading

pytestmark = [
    # PEFT 0.21 asks transformers 5.23 for a property that has a new name
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("base"))


def settings(base: Path, bits: str = "none", dtype: str = "float32", **changes: Any) -> Config:
    quantization = Quantization(bits=bits)
    return Config(model=Model(name=str(base)), hardware=Hardware(dtype=dtype), quantization=quantization, **changes)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.arange(48).reshape(1, 48)).logits.float()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_base_has_the_precision_that_was_asked_for(base: Path, dtype: str) -> None:
    model = loading.load_base(settings(base, dtype=dtype))
    assert {weights.dtype for weights in model.parameters()} == {getattr(torch, dtype)}
    assert not model.training
    assert model.device.type == "cpu"


@pytest.mark.parametrize(("bits", "kind"), [("4", Linear4bit), ("8", Linear8bitLt)])
@pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast from:UserWarning")  # LLM.int8 computes so
def test_a_quantized_base(base: Path, bits: str, kind: type[torch.nn.Module]) -> None:
    model = loading.load_base(settings(base, bits, "bfloat16"))
    layers = [module for module in model.modules() if isinstance(module, kind)]
    assert len(layers) == 2 * 7  # all of two blocks, not the output head
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16
    plain = loading.load_base(settings(base)).model.layers[1].mlp.down_proj
    torch.manual_seed(0)
    given = torch.randn(16, plain.in_features)
    with torch.inference_mode():
        expected, found = plain(given), model.model.layers[1].mlp.down_proj(given.bfloat16()).float()
    assert 1e-4 < (found - expected).norm() / expected.norm() < {"4": 0.15, "8": 0.03}[bits]
    if bits == "4":
        assert {layer.weight.quant_type for layer in layers} == {"nf4"}
        assert all(layer.weight.quant_state.nested for layer in layers)
        assert {layer.compute_dtype for layer in layers} == {torch.bfloat16}


def test_an_evaluation_pass_leaves_4_bit_weights_as_training_needs_them(base: Path) -> None:
    """On CPUs with AVX512-BF16 bitsandbytes would repack them in that pass, for good."""
    model = loading.load_base(settings(base, "4"))
    layers = {name: module for name, module in model.named_modules() if isinstance(module, Linear4bit)}
    before = {name: layer.weight.data.clone() for name, layer in layers.items()}
    with torch.no_grad():
        model.eval()(input_ids=torch.arange(48).reshape(1, 48))
    for name, layer in layers.items():
        assert torch.equal(layer.weight.data, before[name])
        assert not getattr(layer.weight.quant_state, "packing_format_for_cpu", False)


@pytest.mark.parametrize("bits", ["none", "4"])
def test_an_adapter_beside_its_base(base: Path, tmp_path: Path, bits: str) -> None:
    write_adapter(tmp_path, base)
    config = settings(base, bits, "bfloat16")
    tuned = loading.load_tuned(config, tmp_path)
    assert not tuned.training
    adapter = [weights for name, weights in tuned.named_parameters() if "lora_" in name]
    assert adapter
    assert {weights.dtype for weights in adapter} == {torch.float32}
    assert not any(weights.requires_grad for weights in tuned.parameters())
    assert (logits(tuned) - logits(loading.load_base(config))).abs().max() > 0.5


@pytest.mark.parametrize("trained", ["float32", "bfloat16"])
def test_a_whole_model_learns_in_the_precision_that_was_asked_for(base: Path, trained: str) -> None:
    config = settings(base, dtype="bfloat16", adapter="none")
    config.hardware.trained_dtype = trained
    model = loading.load_trainable(config)
    assert {weights.dtype for weights in model.parameters()} == {getattr(torch, trained)}
    assert all(weights.requires_grad for weights in model.parameters())


def test_weights_that_are_stored_quantized_do_not_train(base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "base"))
    loading.load_base(settings(base, "8")).save_pretrained(folder)
    with pytest.raises(UserError, match="are stored quantized") as raised:
        loading.load_trainable(settings(folder, adapter="none"))
    assert "method=lora" in raised.value.hint


@pytest.mark.parametrize("bits", ["none", "4"])
def test_an_adapter_learns_on_the_base_as_it_is_stored(base: Path, bits: str) -> None:
    model = loading.load_trainable(settings(base, bits, "bfloat16"))
    expected = {torch.bfloat16} if bits == "none" else {torch.bfloat16, torch.uint8}
    assert {weights.dtype for weights in model.parameters()} == expected


def test_a_whole_model_that_was_trained(base: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "model", tied=True)
    config = settings(base, dtype="bfloat16", adapter="none")
    tuned = loading.load_tuned(config, tmp_path)
    assert not tuned.training
    assert {weights.dtype for weights in tuned.parameters()} == {torch.bfloat16}
    assert tuned.config.tie_word_embeddings
    assert not loading.load_base(config).config.tie_word_embeddings


def test_an_evaluation_pass_in_the_middle_of_training_changes_nothing(base: Path, tmp_path: Path) -> None:
    write_adapter(tmp_path, base, use_dora=True)
    model = loading.load_tuned(settings(base, "4"), tmp_path).train()
    before = logits(model)
    logits(model.eval())
    assert torch.equal(logits(model.train()), before)


def test_padding_without_a_padding_token(base: Path, tmp_path: Path) -> None:
    tokenizer = loading.load_tokenizer(base)
    assert tokenizer.eos_token == "<|im_end|>"
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    assert loading.load_tokenizer(tmp_path).pad_token == "<|im_end|>"


def test_a_card_that_is_not_there(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = settings(base)
    config.hardware.memory_gb, config.hardware.name = 12, "rtx3060"
    with pytest.raises(MachineError, match="hardware=rtx3060 needs a CUDA card"):
        loading.load_base(config)


def test_a_kernel_that_is_not_installed(base: Path) -> None:
    config = settings(base)
    config.hardware.attn_implementation = "flash_attention_2"
    with pytest.raises(MachineError, match="hardware.attn_implementation=flash_attention_2"):
        loading.load_base(config)


def test_a_kernel_that_the_model_does_not_take(tmp_path: Path) -> None:
    """Gemma 2 caps its attention scores, which no fused kernel of torch does."""
    write_model(tmp_path, "gemma2")
    config = settings(tmp_path)
    assert loading.load_base(config).config._attn_implementation == "eager"  # open: what it takes
    for kernel in ("sdpa", "no_such_kernel"):
        config.hardware.attn_implementation = kernel
        with pytest.raises(UserError, match=f"hardware.attn_implementation={kernel}: .* does not take it"):
            loading.load_base(config)


def test_the_fused_kernel_is_taken_where_nothing_is_said(base: Path) -> None:
    assert loading.load_base(settings(base)).config._attn_implementation == "sdpa"


def test_pickled_weights_are_refused(base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "pickled"))
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="safetensors"):
        loading.load_base(settings(folder))
