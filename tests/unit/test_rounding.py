"""What training saw of a quantized base, bit for bit what bitsandbytes itself makes of it on the CPU."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GPT2Config, GPT2LMHeadModel

from random_models import SHAPE, tokenizer, write_model
from sft_runner.config.schema import Config, Model
from sft_runner.merging.rounding import int8, nf4, rounding

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SHAPES = [(1, 1), (3, 7), (33, 65), (100, 36), (300, 700), (512, 1024), (2100, 2048)]
"""Less than a block, odd rows, short last blocks, several nested blocks, and more than one piece."""


def weight(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """As in a model: small, with zeros and some that stand out."""
    torch.manual_seed(0)
    found = 0.02 * torch.randn(shape)
    found.view(-1)[::37] *= 20
    if shape[0] > 99:
        found[5:7] = 0
    return found.to(dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("stored", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_it_is_what_bitsandbytes_makes(shape: tuple[int, ...], dtype: torch.dtype, stored: torch.dtype) -> None:
    from bitsandbytes import functional

    given = weight(shape, stored)
    packed, state = functional.quantize_4bit(given.to(dtype), compress_statistics=True, quant_type="nf4")
    assert torch.equal(nf4(given, dtype), functional.dequantize_4bit(packed, state))
    codes, scales, _ = functional.int8_vectorwise_quant(given.to(dtype).half())
    assert torch.equal(int8(given, dtype), functional.int8_vectorwise_dequant(codes, scales).to(dtype))


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_weights_that_are_all_equal(value: float) -> None:
    from bitsandbytes import functional

    given = torch.full((4, 64), value)
    packed, state = functional.quantize_4bit(given, compress_statistics=True, quant_type="nf4")
    assert torch.equal(nf4(given, torch.float32), functional.dequantize_4bit(packed, state))
    assert torch.equal(nf4(given, torch.float32), given)
    assert torch.allclose(int8(given, torch.float32), given, rtol=1e-6)


def test_a_card_takes_the_nearest_scale() -> None:
    """bitsandbytes on the CPU looks it up in a table, which is off by one code now and then."""
    given = weight((2100, 2048))
    on_cpu, on_card = nf4(given, torch.float32), nf4(given, torch.float32, on_card=True)
    other = (on_cpu != on_card).float().mean().item()
    assert 0 < other < 0.01
    assert (on_cpu - on_card).abs().max() < 0.05 * given.abs().max()


def wide(tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype = torch.float32) -> Path:
    """A model whose rows are whole blocks."""
    for name, width in {"hidden_size": 64, "intermediate_size": 128}.items():
        monkeypatch.setitem(SHAPE, name, width)
    return write_model(tmp_path / "base", family, tied=family != "llama", dtype=dtype)


def config(base: Path, bits: str, dtype: str = "float32", **other: Any) -> Config:
    found = Config(model=Model(name=str(base)), **other)
    found.quantization.bits, found.hardware.dtype = bits, dtype
    return found


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("bits", ["4", "8"])
def test_a_model_is_rounded_where_transformers_quantizes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: str, dtype: str, family: str
) -> None:
    """Layer by layer what a loaded model holds: linear ones, turned where GPT-2 turns them; no embedding, no head."""
    from bitsandbytes.nn import Linear4bit, Linear8bitLt
    from peft.utils.integrations import dequantize_bnb_weight

    if family == "gpt2":
        base = tmp_path / "base"
        shape = {"n_embd": 64, "n_layer": 2, "n_head": 2, "vocab_size": 260, "bos_token_id": 0, "eos_token_id": 0}
        GPT2LMHeadModel(GPT2Config(**shape)).save_pretrained(base)
        tokenizer().save_pretrained(base)
    else:
        base = wide(tmp_path, family, monkeypatch)
    four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    how = BitsAndBytesConfig(**four) if bits == "4" else BitsAndBytesConfig(load_in_8bit=True)
    loaded = AutoModelForCausalLM.from_pretrained(
        base, quantization_config=how, dtype=getattr(torch, dtype), device_map={"": "cpu"}
    )
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    found = rounding(config(base, bits, dtype), base)
    assert found is not None
    quantized = 0
    for name, value in plain.named_parameters():
        module = loaded.get_submodule(name.rpartition(".")[0])
        if name.endswith(".weight") and isinstance(module, Linear4bit | Linear8bitLt):
            quantized += 1
            seen = (
                dequantize_bnb_weight(module.weight, getattr(module, "state", None)).to(getattr(torch, dtype)).float()
            )
            turned = seen.T if found.layers[name] else seen
            assert torch.equal(found.round(name, value.data), turned), name
            assert not torch.equal(turned, value.data)
        else:
            assert not found.covers(name)
            plain_value = value.detach()
            assert found.round(name, plain_value) is plain_value
    assert quantized == (8 if family == "gpt2" else 14)
    assert set(found.layers.values()) == {family == "gpt2"}
    assert found.whole_blocks


def test_a_model_that_was_not_quantized_is_not_rounded(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    assert rounding(config(base, "none"), base) is None
    assert rounding(config(base, "4", adapter="none"), base) is None
    found = rounding(config(base, "4"), base)
    assert found is not None
    assert not found.whole_blocks  # rows of 32


def test_the_weights_of_a_large_layer_need_little_memory() -> None:
    """The largest of a 7 B model, in a process of its own: itself, the result, and pieces."""
    code = """
import resource, torch
from sft_runner.merging.rounding import int8, nf4
torch.set_num_threads(1)
nf4(torch.ones(64, 64), torch.bfloat16)
weight = torch.full((18944, 3584), 0.5, dtype=torch.bfloat16)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for make in (nf4, int8):
    make(weight, torch.bfloat16)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert float(found.stdout) < 18944 * 3584 * 2 / 2**20 + 200
