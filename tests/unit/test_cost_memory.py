"""Bytes by formula are those that torch, bitsandbytes and autograd really hold, as far as a CPU can show it."""

import json
import warnings
import weakref
from contextlib import nullcontext
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.cost_models import LLAMA_31_8B, QWEN_25_7B, family_config, settings, shape_of
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from sft_runner.config.schema import Config, Model
from sft_runner.cost.activations import is_masked, kept, of_layer, passing
from sft_runner.cost.memory import Memory, training_memory
from sft_runner.cost.optimizer import state_bytes
from sft_runner.cost.parameters import model_shapes
from sft_runner.cost.precision import of_model
from sft_runner.cost.weights import base_bytes, copies_bytes, workspace_bytes
from sft_runner.model.architecture import Architecture, architecture

ROWS, LENGTH = 2, 96
WIDE = {"hidden_size": 256, "intermediate_size": 704, "num_attention_heads": 8}


@pytest.mark.parametrize("name", ["adamw_torch", "sgd", "rmsprop", "adafactor", "adamw_8bit", "lion_8bit"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_optimizer_states(name: str, dtype: torch.dtype) -> None:
    shapes = {(8, 1536): 3, (64, 40): 2, (2000,): 1, (300, 517): 1}
    weights = [
        torch.nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape, many in shapes.items() for _ in range(many)
    ]
    optimizer = make_optimizer(name, weights)
    for value in weights:
        value.grad = torch.ones_like(value)
    optimizer.step()
    tensors = {id(x): x for state in optimizer.state.values() for x in state.values() if isinstance(x, torch.Tensor)}
    real = sum(x.untyped_storage().nbytes() for x in tensors.values())
    found = state_bytes(name, shapes, dtype.itemsize)
    if name == "adafactor":
        assert found == real
    else:
        assert found - real in (0, 1024)  # Lion has one table of codes, AdamW two


def make_optimizer(name: str, weights: list[torch.nn.Parameter]) -> Any:
    import bitsandbytes
    from transformers.optimization import Adafactor

    return {
        "adamw_torch": torch.optim.AdamW,
        "sgd": torch.optim.SGD,
        "rmsprop": torch.optim.RMSprop,
        "adafactor": lambda weights: Adafactor(weights, lr=1e-3, scale_parameter=False, relative_step=False),
        "adamw_8bit": bitsandbytes.optim.AdamW8bit,
        "lion_8bit": bitsandbytes.optim.Lion8bit,
    }[name](weights)


@pytest.mark.parametrize("bits", ["4", "8"])
@pytest.mark.parametrize(("family", "tied"), [("qwen2", True), ("llama", False)])
def test_quantised_weights(tmp_path: Path, bits: str, family: str, tied: bool) -> None:
    config = family_config(family, tied)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16, quantization_config=stored(bits))
    real = 0
    for value in model.parameters():
        real += value.numel() * value.element_size()
        if (state := getattr(value, "quant_state", None)) is not None:
            held = [state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
            real += sum(x.numel() * x.element_size() for x in held)
        if (scales := getattr(value, "SCB", None)) is not None:
            real += scales.numel() * scales.element_size()
    assert base_bytes(settings(bits=bits), shape_of(config)) == real


def stored(bits: str) -> BitsAndBytesConfig:
    if bits == "8":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def test_weights_that_are_stored_quantised() -> None:
    for bits in (4, 8):
        stored = replace(LLAMA_31_8B, stored_bits=bits)
        assert base_bytes(settings(), stored) == base_bytes(settings(bits=str(bits)), LLAMA_31_8B)


@pytest.mark.parametrize(
    ("config", "bits"),
    [
        ({"quant_method": "gptq", "bits": 4}, 4),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False}, 4),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8),
        ({"quant_method": "mxfp4"}, 4),
        ({"quant_method": "fp8"}, 8),
    ],
)
def test_bits_that_a_model_is_stored_in(tmp_path: Path, config: dict[str, Any], bits: int) -> None:
    model = AutoModelForCausalLM.from_config(family_config("llama"))
    model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    path = tmp_path / "config.json"
    assert architecture(Model(name=str(tmp_path))).stored_bits == 0  # type: ignore[union-attr]
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": config}))
    assert architecture(Model(name=str(tmp_path))).stored_bits == bits  # type: ignore[union-attr]


def test_bits_of_a_weight() -> None:
    whole, quantised = (base_bytes(settings(bits=bits), LLAMA_31_8B) for bits in ("none", "4"))
    linear = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    assert 8 * (quantised - (whole - 2 * linear)) / linear == pytest.approx(4.127, abs=0.001)


@pytest.mark.parametrize(
    ("family", "method", "hardware", "tolerance"),
    [
        ("llama", "lora", {}, 0.01),
        ("llama", "lora", {"dtype": "float32"}, 0.01),
        ("llama", "lora", {"trained_dtype": "bfloat16"}, 0.01),
        ("llama", "dora", {}, 0.02),
        ("llama", "full", {}, 0.01),
        ("llama", "full", {"trained_dtype": "bfloat16"}, 0.01),
        ("llama", "full", {"dtype": "float32"}, 0.01),
        ("qwen2", "lora", {}, 0.01),
        ("qwen3", "lora", {}, 0.01),
        ("qwen3", "full", {}, 0.04),
        ("gemma2", "lora", {}, 0.05),
        ("phi3", "lora", {}, 0.04),
        ("phi3", "full", {}, 0.05),
        ("qwen3_moe", "lora", {}, 0.15),
    ],
)
@pytest.mark.parametrize("padded", [False, True])
def test_what_autograd_keeps(
    family: str, method: str, hardware: dict[str, str], tolerance: float, padded: bool
) -> None:
    config, shape = settings(method, **hardware), shape_of(family_config(family, **own_width(family)))
    real = really_kept(config, family, "none", padded) + beyond(config, shape)
    assert kept(config, shape, ROWS, LENGTH, "none", masked=padded) == pytest.approx(real, rel=tolerance)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_checkpointing_keeps(method: str) -> None:
    config, shape = settings(method), shape_of(family_config("llama", **WIDE))
    real = really_kept(config, "llama", "full", padded=False)
    again = ROWS * LENGTH * of_layer(config, shape, LENGTH, masked=False).total  # the layer that is made anew
    head = ROWS * LENGTH * shape.hidden_size * of_model(config)
    real += head if method == "lora" else 0  # a norm that trains keeps as much as the head's input
    assert kept(config, shape, ROWS, LENGTH, "full", masked=False) - again == pytest.approx(real, rel=0.01)


def beyond(config: Config, shape: Architecture) -> int:
    """What a backbone alone does not keep and the count has: the head's input, in whose place a norm that trains keeps
    its values, and of an adapter's first layer the norm, before which nothing trains."""
    if config.adapter == "none":
        return 0
    return ROWS * LENGTH * shape.hidden_size * (of_model(config) + 4)


def own_width(family: str) -> dict[str, int]:
    own = {"head_dim": 32} if family in ("qwen3", "gemma2", "qwen3_moe") else {}
    return {**WIDE, **own, **({"moe_intermediate_size": 128} if family == "qwen3_moe" else {})}


@pytest.mark.parametrize(
    ("method", "hardware", "checkpointing"),
    [
        ("lora", {}, "none"),
        ("lora", {"trained_dtype": "bfloat16"}, "none"),
        ("lora", {"dtype": "float32"}, "none"),
        ("lora", {}, "full"),
        ("dora", {}, "none"),
        ("full", {}, "none"),
        ("full", {"trained_dtype": "bfloat16"}, "none"),
    ],
)
def test_the_peak_of_forward_and_backward(method: str, hardware: dict[str, str], checkpointing: str) -> None:
    """Everything that operations allocate in between too; weights and their gradients left out."""
    config, shape = settings(method, **hardware), shape_of(family_config("llama", **WIDE))
    counted = kept(config, shape, ROWS, LENGTH, checkpointing, masked=False) + ROWS * LENGTH * passing(
        config, shape, LENGTH
    )
    counted += workspace_bytes(config, shape) + copies_bytes(config, shape)
    assert 0.97 <= counted / real_peak(config, checkpointing) <= 1.07


@pytest.mark.parametrize(
    ("family", "kernel", "rows", "length", "checkpointing"),
    [
        ("llama", "eager", 2, 512, "none"),
        ("llama", "eager", 1, 1024, "none"),
        ("llama", "eager", 1, 1024, "full"),
        ("gemma2", "eager", 2, 512, "none"),
        ("gemma2", "eager", 1, 1024, "none"),
        ("gemma2", "eager", 1, 1024, "full"),
        ("llama", "sdpa", 2, 512, "none"),
        ("gemma3_text", "sdpa", 2, 512, "none"),  # layers with a window make a mask, no others do
    ],
)
def test_the_peak_of_long_rows(family: str, kernel: str, rows: int, length: int, checkpointing: str) -> None:
    """Scores grow with the square of the rows' length. Passes have no mask, as in training."""
    config = settings(attn_implementation=kernel)
    window = {"sliding_window": 64} if family == "gemma3_text" else {}
    own = {**own_width(family), "num_hidden_layers": 2, "max_position_embeddings": 2048, **window}
    shape = shape_of(family_config(family, **own))
    counted = kept(config, shape, rows, length, checkpointing, is_masked(shape))
    counted += rows * length * passing(config, shape, length)
    assert 0.97 <= counted / real_peak(config, checkpointing, family, own, rows, length) <= 1.12


@pytest.mark.parametrize("hardware", [{}, {"trained_dtype": "bfloat16"}, {"dtype": "float32"}])
def test_dropout_on_the_cpu(hardware: dict[str, str]) -> None:
    """It keeps a factor for each value, where a card keeps a byte."""
    config, shape = settings(memory_gb=0.0, **hardware), shape_of(family_config("llama", **WIDE))
    config.lora.lora_dropout = 0.1
    counted = kept(config, shape, 2, 256, "none", masked=False) + 2 * 256 * passing(config, shape, 256)
    assert 0.97 <= counted / real_peak(config, "none", "llama", WIDE, 2, 256) <= 1.07


class Allocated(TorchDispatchMode):
    """Counts the bytes of every storage that an operation makes, while it lives."""

    def __init__(self, known: list[torch.Tensor]) -> None:
        super().__init__()
        self.live = {value.untyped_storage()._cdata: 0 for value in known}
        self.now = self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for value in tree_flatten(made)[0]:
            if isinstance(value, torch.Tensor) and value.untyped_storage()._cdata not in self.live:
                storage = value.untyped_storage()
                self.live[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                weakref.finalize(storage, self._gone, storage._cdata)
        self.peak = max(self.peak, self.now)
        return made

    def _gone(self, key: int) -> None:
        self.now -= self.live.pop(key, 0)


def real_peak(
    config: Config,
    checkpointing: str,
    family: str = "llama",
    own: dict[str, int] = WIDE,
    rows: int = ROWS,
    length: int = LENGTH,
) -> int:
    """The most that a forward and a backward pass of the backbone hold at once."""
    model = build(config, family, checkpointing, own)
    weights = [*model.parameters(), *model.buffers()]
    ids = torch.randint(3, 320, (rows, length))
    places = torch.arange(length).expand_as(ids)
    autocast = torch.autocast("cpu", torch.bfloat16) if config.hardware.dtype == "bfloat16" else nullcontext()
    with Allocated(weights) as allocated:
        with autocast:
            made = model.train().model(input_ids=ids, position_ids=places, use_cache=False).last_hidden_state
            loss = made.float().sum()
        forward = allocated.peak
        allocated.peak = allocated.now
        loss.backward()
    if config.adapter == "none":
        return forward  # from here on gradients take the room of what was kept
    return max(forward, allocated.peak - sum(w.numel() * w.element_size() for w in weights if w.requires_grad))


def build(config: Config, family: str, checkpointing: str, own: dict[str, int] | None = None) -> Any:
    """A model of `settings` with its adapter, in the precision in which it trains."""
    torch.manual_seed(0)
    full = config.adapter == "none"
    dtype = getattr(torch, config.hardware.trained_dtype if full else config.hardware.dtype)
    kernel = config.hardware.attn_implementation or ("eager" if family == "gemma2" else "sdpa")
    model: Any = AutoModelForCausalLM.from_config(
        family_config(family, **(own or own_width(family))), dtype=dtype, attn_implementation=kernel
    )
    if checkpointing == "full":
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    if full:
        return model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lora = LoraConfig(
            task_type="CAUSAL_LM",
            r=8,
            target_modules="all-linear",
            use_dora=config.lora.use_dora,
            lora_dropout=config.lora.lora_dropout,
        )
        model = get_peft_model(model, lora).get_base_model()
    for value in model.parameters():
        if value.requires_grad:
            value.data = value.data.to(getattr(torch, config.hardware.trained_dtype))
    return model


def really_kept(config: Config, family: str, checkpointing: str, padded: bool) -> int:
    """Bytes that the backbone keeps for the backward pass, weights and their 16-bit copies left out."""
    model = build(config, family, checkpointing)
    own = {value.untyped_storage().data_ptr() for value in (*model.parameters(), *model.buffers())}
    found: dict[int, torch.Tensor] = {}

    def pack(value: torch.Tensor) -> torch.Tensor:
        if value.untyped_storage().data_ptr() not in own and not is_weight(value):
            found[value.untyped_storage().data_ptr()] = value
        return value

    ids = torch.randint(3, 320, (ROWS, LENGTH))
    mask = torch.ones_like(ids)
    mask[0, -3:] = 0 if padded else 1
    autocast = torch.autocast("cpu", torch.bfloat16) if config.hardware.dtype == "bfloat16" else nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value), autocast:
        model.train().model(input_ids=ids, attention_mask=mask, use_cache=False)
    return sum(value.untyped_storage().nbytes() for value in found.values())


def is_weight(value: torch.Tensor) -> bool:
    """Whether a tensor has no dimension of tokens: a copy of a weight, or of the experts' (4 of them)."""
    tokens = (ROWS * LENGTH, 2 * ROWS * LENGTH)
    return (value.ndim == 2 and value.shape[0] not in tokens) or (value.ndim == 3 and value.shape[0] == 4)


def test_parts_and_their_sum() -> None:
    found = training_memory(settings("full"), QWEN_25_7B, 1, "full", 1024)
    assert found.total == sum(vars(found).values())
    assert found.gradients == 4 * 7_615_616_512
    assert found.optimizer == 8 * 7_615_616_512 + 4 * sum(model_shapes(QWEN_25_7B).values())
    assert found.weights > 4 * 7_615_616_512  # and 16-bit copies


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        ({"bits": "4"}, {"bits": "8"}),
        ({"bits": "8"}, {}),
        ({}, {"method": "dora"}),
        ({}, {"method": "full", "trained_dtype": "bfloat16"}),
        ({"method": "full", "trained_dtype": "bfloat16"}, {"method": "full"}),
        ({"method": "full", "optim": "adamw_8bit"}, {"method": "full"}),
        ({"method": "full", "optim": "adafactor"}, {"method": "full", "optim": "adamw_8bit"}),
    ],
)
def test_what_takes_less(smaller: dict[str, Any], larger: dict[str, Any]) -> None:
    assert total(settings(**smaller)) < total(settings(**larger))


def test_memory_grows_with_rows_length_and_less_checkpointing() -> None:
    config = settings()
    by_mode = [total(config, mode=mode) for mode in ("full", "selective", "none")]
    assert by_mode == sorted(by_mode)
    assert total(config, rows=1) < total(config, rows=2) < total(config, rows=4)
    assert total(config, length=512) < total(config, length=1024)


def test_gradients_that_take_the_room_of_activations() -> None:
    whole, half = (settings("full", trained_dtype="bfloat16", rows=rows) for rows in (4, 8))
    packed = settings("full", trained_dtype="bfloat16", rows=4)
    whole.train.packing = half.train.packing = False
    assert total(whole, rows=4) < total(half, rows=4) == total(packed, rows=4)  # packed rows may take several passes


def total(config: Config, rows: int = 2, mode: str = "full", length: int = 1024) -> int:
    found: Memory = training_memory(config, LLAMA_31_8B, rows, mode, length)
    assert all(size >= 0 for size in vars(found).values())
    assert prod((rows, length)) > 0
    return found.total
