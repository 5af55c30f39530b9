"""A model as it is stored, with an adapter beside it or without one, and where it is loaded to."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config
from sft_runner.disk import read_json
from sft_runner.errors import StageFailed, UserError

ROOM = 1.3
"""Accelerator memory needed, as a multiple of the weights."""
PREFIX = "base_model.model."
"""How PEFT's names of a model's parts begin."""
WEIGHTS = "adapter_model.safetensors"
"""PEFT's file."""
MISSING = "Found missing adapter keys while loading the checkpoint"
"""How PEFT's warning begins where the adapter lacks weights that its own configuration asks for."""


def place(config: Config, base: Path) -> str:
    """Where to load: the accelerator if the run has one and the unquantized base fits, else the CPU."""
    import torch

    if config.hardware.memory_gb <= 0 or not torch.cuda.is_available():
        return "cpu"
    size = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    return "cuda:0" if torch.cuda.mem_get_info(0)[0] > ROOM * size else "cpu"


def load_stored(folder: Path, device: str = "cpu", own_code: bool = False) -> Any:
    """A model as plain transformers loads it, in the precision it is stored in.

    `own_code`: whether the code of the model may run that it comes from. Raises `UserError` for a base that is stored
    quantized.
    """
    from transformers import AutoModelForCausalLM

    refuse_quantized(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", use_safetensors=True, trust_remote_code=own_code
    )
    return model.to(device).eval()


def load_adapted(base: Path, adapter: Path, device: str = "cpu", own_code: bool = False) -> Any:
    """The base in the precision it is stored in, with the adapter beside it.

    Raises `StageFailed` where the adapter does not fit the base.
    """
    from peft import PeftModel

    model = load_stored(base, device, own_code)
    if rows := vocabulary(model, _shapes(adapter)):
        model.resize_token_embeddings(rows, mean_resizing=False)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            adapted = PeftModel.from_pretrained(model, adapter)
        except (RuntimeError, ValueError, KeyError) as error:  # a shape that differs, or no module that is named
            raise another(adapter, base, str(error).strip().splitlines()[-1].strip()) from error
    lacking = next((str(one.message) for one in said if str(one.message).startswith(MISSING)), None)
    if lacking:
        raise another(adapter, base, lacking)
    return adapted.eval()


def vocabulary(model: Any, saved: Mapping[str, Any]) -> int:
    """How many rows the embedding has that is `saved` beside an adapter, where the model's has another number; else 0.

    `saved`: the shape of each tensor by its name in the adapter's file.
    """
    embedding = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is embedding)
    for ending in (".weight", ".base_layer.weight"):
        rows = saved.get(f"{PREFIX}{name}{ending}", embedding.weight.shape)[0]
        if rows != embedding.weight.shape[0]:
            return int(rows)
    return 0


def refuse_quantized(folder: Path) -> None:
    """Raise `UserError` where a model's weights are stored quantized."""
    if (read_json(folder / "config.json") or {}).get("quantization_config"):
        raise UserError(
            f"model.name: the weights in {folder} are stored quantized, an adapter cannot be merged into them",
            "name the 16-bit model and let quantization.bits quantize it for training, or end with stage=evaluate",
        )


def another(adapter: Path, base: Path, why: str) -> StageFailed:
    """The failure of an adapter that belongs to another model."""
    return StageFailed(
        f"the adapter {adapter} does not fit the base {base}: {why}",
        "set model.name to the model that it was trained on, or train again with force=[train]",
    )


def dtype_of(model: Any) -> str:
    """A model's precision, such as `bfloat16`."""
    return str(model.dtype).removeprefix("torch.")


def _shapes(adapter: Path) -> dict[str, list[int]]:
    from safetensors import safe_open

    path = adapter / WEIGHTS
    if not path.is_file():
        return {}
    with safe_open(path, "pt") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
