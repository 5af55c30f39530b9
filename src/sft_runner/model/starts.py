"""How an adapter starts, where that is more than two factors of which one is zero.

PiSSA and OLoRA begin with `W = R + s B0 A0`: the factors hold a part of the base's weight, and what is left, `R`,
stays frozen in its place. Such an adapter fits no other copy of the base. Since `R + s B A = W + s (B A - B0 A0)`,
the adapter with the factors `[A; A0]` and `[B, -B0]` is the same model on the original base (Meng et al. 2024,
appendix C). Its rank is twice as large. An embedding, which these starts leave alone, has `A0 = 0`.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import Lora
from sft_runner.disk import read_json, write_json

if TYPE_CHECKING:
    from torch import Tensor

MOVING = ("pissa", "pissa_niter_16", "olora")
"""Values of `lora.init_lora_weights` that change the base's weights while they train."""
DIRECTION = 1e-3
"""Values of B where DoRA has no direction of the base's. Any does, for only the direction counts."""
MAGNITUDE = "lora_magnitude_vector"
"""DoRA's lengths of rows. Weight decay would draw them to zero and not to the base; their updates are smaller than
bfloat16 can hold."""
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def moves(lora: Lora) -> bool:
    """Whether the start changes the base's weights."""
    return lora.init_lora_weights in MOVING


def factors(adapted: Any) -> "dict[str, Tensor]":
    """A copy of all factors A and B of a `PeftModel`, on the CPU, by the names that PEFT gives them in its files."""
    from peft import get_peft_model_state_dict

    found = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    return {name: value.detach().to("cpu", copy=True) for name, value in found.items() if ".lora_" in name}


def fit_magnitudes(adapted: Any) -> None:
    """Make DoRA, which writes a row as its length times its direction, start exactly where its base is.

    PEFT measures the lengths in the base's precision, which in 16 bits rounds them by up to 0.4 %, and trains in
    another; here they are measured as the forward pass does it. Where the base has a row of zeros that pass would
    divide 0 by 0. With B not zero there the direction is that of the adapter, the length stays zero, the model is the
    same, and the row can learn.
    """
    from peft.tuners.lora import LoraLayer

    magnitude: Any
    for layer in adapted.modules():
        if isinstance(layer, LoraLayer):
            for name, magnitude in layer.lora_magnitude_vector.items():
                lengths = _lengths(layer, name)
                magnitude.weight.data = lengths.to(magnitude.weight)
                if name in layer.lora_B:
                    factor: Any = layer.lora_B[name]
                    factor.weight.data[lengths == 0] = DIRECTION


def fit_original(folder: Path, start: "dict[str, Tensor]") -> None:
    """Rewrite the PEFT adapter in `folder` so that it fits the original base; `start` are its `factors` at step 0."""
    import torch
    from safetensors.torch import load_file, save_file

    weights, values = load_file(folder / WEIGHTS), read_json(folder / CONFIG)
    for name, end in weights.items():
        if ".lora_A." in name or name.endswith(".lora_embedding_A"):
            weights[name] = torch.cat([end, start[name].to(end)], dim=0)
        elif ".lora_B." in name or name.endswith(".lora_embedding_B"):
            weights[name] = torch.cat([end, -start[name].to(end)], dim=1)
    growth = math.sqrt(2) if values["use_rslora"] else 2  # the scale is alpha / r, or alpha / sqrt(r)
    values |= {"r": 2 * values["r"], "lora_alpha": growth * values["lora_alpha"], "init_lora_weights": True}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    write_json(folder / CONFIG, values)


def _lengths(layer: Any, name: str) -> "Tensor":
    """The lengths by which DoRA divides the rows of a layer's weight, with the adapter called `name` added to it."""
    import torch
    from peft.utils.integrations import dequantize_module_weight

    magnitude, embeds = layer.lora_magnitude_vector[name], name in layer.lora_embedding_A
    if embeds:
        factors = [layer.lora_embedding_A[name].T, layer.lora_embedding_B[name].T]
    else:
        factors = [layer.lora_A[name], layer.lora_B[name]]
    with torch.no_grad():
        low_rank = magnitude.get_lora_weight(*factors)
        weight = dequantize_module_weight(layer.get_base_layer()).to(low_rank.dtype)
        found: Tensor = magnitude.get_weight_norm(weight, low_rank, scaling=layer.scaling[name])
    return found
