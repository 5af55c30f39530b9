"""Parameters by formula are those of transformers' own models and of PEFT's own adapters."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.cost_models import QWEN_25_7B, family_config, shape_of
from transformers import AutoModelForCausalLM

from sft_runner.config.schema import Lora, Model
from sft_runner.cost.parameters import EXACT, active, adapter_parameters, adapter_shapes, model_shapes, parameters
from sft_runner.model.architecture import architecture
from sft_runner.model.files import EMBEDDED

MOE = ("mixtral", "qwen3_moe")


def on_meta(family: str, tied: bool = False) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(family_config(family, tied))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", EXACT)
def test_parameters(family: str, tied: bool) -> None:
    model, shape = on_meta(family, tied), shape_of(family_config(family, tied))
    found = parameters(shape)
    assert found.total == sum(value.numel() for value in model.parameters())
    assert found.other == 0
    assert model_shapes(shape) == Counter(tuple(value.shape) for value in model.parameters())
    by_part: Counter[str] = Counter()
    for name, value in model.named_parameters():
        part = next((word for word in ("norm", "self_attn", "mlp", "embed_tokens", "lm_head") if word in name), name)
        by_part[part] += value.numel()
    assert found.norms == by_part["norm"]
    assert found.attention == by_part["self_attn"]
    assert found.feed_forward + found.experts == by_part["mlp"]
    assert found.head == by_part["lm_head"]


@pytest.mark.parametrize(
    "targets",
    [
        ["all-linear"],
        ["q_proj", "v_proj"],
        ["q_proj", "embed_tokens"],
        ["model.layers.1.self_attn.o_proj"],
        ["layers.0.mlp.down_proj", "k_proj"],
    ],
)
@pytest.mark.parametrize("use_dora", [False, True])
def test_adapter_parameters(targets: list[str], use_dora: bool) -> None:
    check_adapter("qwen2", Lora(r=4, target_modules=targets, use_dora=use_dora))


@pytest.mark.parametrize("family", [family for family in EXACT if family not in MOE])
def test_adapter_on_all_linear_layers(family: str) -> None:
    check_adapter(family, Lora(r=4))


@pytest.mark.parametrize(
    ("family", "targets", "named"),
    [
        ("mixtral", ["all-linear"], []),
        ("qwen3_moe", ["all-linear"], []),
        ("mixtral", ["q_proj", "w1", "w2", "w3"], []),
        ("qwen3_moe", ["q_proj", "gate_proj", "up_proj", "down_proj"], []),
        ("qwen3_moe", ["q_proj"], ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]),
        ("mixtral", ["q_proj", "o_proj"], ["mlp.experts.down_proj", "gate.weight"]),
    ],
)
@pytest.mark.filterwarnings("ignore:The following .*_pattern keys")
def test_adapter_on_experts(family: str, targets: list[str], named: list[str]) -> None:
    check_adapter(family, Lora(r=4, target_modules=targets, target_parameters=named))


def check_adapter(family: str, lora: Lora) -> None:
    adapted = get_peft_model(
        on_meta(family),
        LoraConfig(
            task_type="CAUSAL_LM",
            r=lora.r or 0,
            target_modules="all-linear" if lora.target_modules == ["all-linear"] else lora.target_modules,
            target_parameters=lora.target_parameters or None,
            use_dora=lora.use_dora,
        ),
    )
    shape = shape_of(family_config(family))
    assert adapter_parameters(lora, shape) == adapted.get_nb_trainable_parameters()[0]
    real = Counter(tuple(value.shape) for value in adapted.parameters() if value.requires_grad)
    assert adapter_shapes(lora, shape) == real


def test_the_embedded_model() -> None:
    from safetensors import safe_open

    shape = architecture(Model(name="embedded:tiny"))
    assert shape is not None
    with safe_open(Path(EMBEDDED) / "tiny/model.safetensors", "pt") as weights:
        stored = sum(weights.get_tensor(name).numel() for name in weights.keys())  # noqa: SIM118
    assert parameters(shape).total == stored
    assert parameters(shape).other == 0


def test_published_sizes() -> None:
    assert parameters(QWEN_25_7B).total == 7_615_616_512


def test_idle_experts_do_not_work() -> None:
    dense, mixture = shape_of(family_config("mistral")), shape_of(family_config("mixtral"))
    # two of four experts, each as wide as the dense layer, and the router
    experts = 3 * 3 * 64 * 176
    assert active(mixture) - active(dense) == pytest.approx(experts, rel=0.01)
