"""How an adapter starts, where that is more than two factors of which one is zero.

PiSSA and OLoRA begin with `W = R + s B0 A0`: the factors hold a part of the base's weight, and what is left, `R`,
stays frozen in its place. Such an adapter fits no other copy of the base. Since `R + s B A = W + s (B A - B0 A0)`,
the adapter with the factors `[A; A0]` and `[B, -B0]` is the same model on the original base (Meng et al. 2024,
appendix C). Its rank is twice as large.
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
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def moves(lora: Lora) -> bool:
    """Whether the start changes the base's weights."""
    return lora.init_lora_weights in MOVING


def factors(adapted: Any) -> "dict[str, Tensor]":
    """A copy of all factors A and B of a `PeftModel`, on the CPU, by the names that PEFT gives them in its files."""
    from peft import get_peft_model_state_dict

    found = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    return {name: value.detach().to("cpu", copy=True) for name, value in found.items() if ".lora_" in name}


def give_direction(adapted: Any) -> None:
    """Give DoRA something to divide where a weight of the base has a row of zeros.

    DoRA writes a row as its length times its direction, so such a row would be 0 / 0. With B not zero there the
    direction is that of the adapter, the length stays zero, the model is the same, and the row can learn.
    """
    from peft.tuners.lora import LoraLayer

    for layer in adapted.modules():
        if isinstance(layer, LoraLayer):
            for name, magnitude in layer.lora_magnitude_vector.items():
                if name in layer.lora_B:
                    factor: Any = layer.lora_B[name]
                    factor.weight.data[magnitude.weight == 0] = DIRECTION


def fit_original(folder: Path, start: "dict[str, Tensor]") -> None:
    """Rewrite the PEFT adapter in `folder` so that it fits the original base; `start` are its `factors` at step 0."""
    import torch
    from safetensors.torch import load_file, save_file

    weights, values = load_file(folder / WEIGHTS), read_json(folder / CONFIG)
    for name, end in weights.items():
        if ".lora_A." in name:
            weights[name] = torch.cat([end, start[name].to(end)], dim=0)
        elif ".lora_B." in name:
            weights[name] = torch.cat([end, -start[name].to(end)], dim=1)
    growth = math.sqrt(2) if values["use_rslora"] else 2  # the scale is alpha / r, or alpha / sqrt(r)
    values |= {"r": 2 * values["r"], "lora_alpha": growth * values["lora_alpha"], "init_lora_weights": True}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    write_json(folder / CONFIG, values)
