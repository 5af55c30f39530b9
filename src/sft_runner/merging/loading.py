"""A model as it is stored, with an adapter beside it or without one, and where it is loaded to."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import Config
from sft_runner.cost.fitting import machine
from sft_runner.disk import read_json
from sft_runner.errors import MachineError, StageFailed, UserError
from sft_runner.hardware import GB
from sft_runner.model import files

if TYPE_CHECKING:
    from torch import Tensor

ROOM = 1.3
"""Accelerator memory needed, as a multiple of the weights."""
PREFIX = "base_model.model."
"""How PEFT's names of a model's parts begin."""
WEIGHTS = "adapter_model.safetensors"
"""PEFT's file."""
SETTINGS = "adapter_config.json"
"""PEFT's file of how an adapter is built."""
MISSING = "Found missing adapter keys while loading the checkpoint"
"""How PEFT's warning begins where the adapter lacks weights that its own configuration asks for."""
FOREIGN = ("not found in the base model", "No modules were targeted", "size mismatch")
"""What PEFT says of an adapter that was made for another model."""
WRAPPED = (".modules_to_save.", ".original_module.")
"""What is in the names of such tensors, which are there under their plain name too."""
REFUSALS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What PEFT raises where it cannot do something; most are `ValueError`."""


def place(config: Config, base: Path) -> str:
    """Where to load: the accelerator if the run has one and the unquantized base fits, else the CPU."""
    import torch

    if config.hardware.memory_gb <= 0 or not torch.cuda.is_available():
        return "cpu"
    size = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    return "cuda:0" if torch.cuda.mem_get_info(0)[0] > ROOM * size else "cpu"


def require_memory(folder: Path) -> None:
    """Raise `MachineError` where the weights in a folder are more than the memory that is free, swap space included."""
    import psutil

    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    free = min(psutil.virtual_memory().available + psutil.swap_memory().free, machine())
    if size > free:
        raise MachineError(
            f"merge proves the logits of the whole model, whose weights are {size / GB:.1f} GB in {folder}, "
            f"and {free / GB:.1f} GB of memory are free",
            "end other programs, or run the same command with this output_dir on a machine with more memory",
        )


def load_stored(folder: Path, device: str = "cpu", own_code: bool = False) -> Any:
    """A model as plain transformers loads it, in the precision it is stored in.

    `own_code`: whether the code of the model may run that it comes from. Raises `UserError` for a base that is stored
    quantized, and `MachineError` where the memory is short.
    """
    from transformers import AutoModelForCausalLM

    refuse_quantized(folder)
    require_memory(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", use_safetensors=True, trust_remote_code=own_code
    )
    return model.to(device).eval()


def load_adapted(base: Path, adapter: Path, device: str = "cpu", own_code: bool = False) -> Any:
    """The base in the precision it is stored in, with the adapter beside it.

    Raises `StageFailed` where the adapter is damaged or does not fit the base.
    """
    from peft import PeftModel

    configuration(adapter)
    shapes = {name: value.shape for name, value in saved(adapter).items()}
    model = load_stored(base, device, own_code)
    if rows := vocabulary(model, shapes):
        model.resize_token_embeddings(rows, mean_resizing=False)
    with warnings.catch_warnings(record=True) as said, fitting(adapter, base):
        warnings.simplefilter("always")
        adapted = PeftModel.from_pretrained(model, adapter)
    lacking = next((str(one.message) for one in said if str(one.message).startswith(MISSING)), None)
    if lacking:
        raise another(adapter, base, lacking)
    return adapted.eval()


def configuration(adapter: Path) -> Any:
    """PEFT's configuration of an adapter. Raises `StageFailed` where it is missing, damaged or not to be merged."""
    from peft import PeftConfig

    path = adapter / SETTINGS
    if not isinstance(read_json(path), dict):
        raise StageFailed(f"{path} is missing or damaged", "train again with force=[train]")
    try:
        found = PeftConfig.from_pretrained(str(adapter), local_files_only=True)
    except REFUSALS as error:
        raise impossible(error) from error
    if getattr(found, "layer_replication", None):
        raise impossible(ValueError("its model has some of the base's layers more than once (layer_replication)"))
    return found


def saved(adapter: Path) -> "dict[str, Tensor]":
    """An adapter's tensors, each once. Raises `StageFailed` where they cannot be read or are not finite."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from sft_runner.merging.arithmetic import is_finite

    path = adapter / WEIGHTS
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise StageFailed(f"{path} cannot be read: {error}", "train again with force=[train]") from error
    broken = next((name for name, value in found.items() if not is_finite(value)), None)
    if broken:
        raise StageFailed(
            f"the adapter is not finite: {broken} in {path} has values that are no numbers",
            "train again with force=[train] and a lower train.learning_rate",
        )
    # of a vocabulary that has grown PEFT also writes the wrappers around a module of `modules_to_save`
    return {name: value for name, value in found.items() if not any(part in name for part in WRAPPED)}


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
    if files.settings(folder).get("quantization_config"):
        raise UserError(
            f"model.name: the weights in {folder} are stored quantized, an adapter cannot be merged into them",
            "name the 16-bit model and let quantization.bits quantize it for training, or end with stage=evaluate",
        )


def another(adapter: Path, base: Path, why: str) -> StageFailed:
    """The failure of an adapter that belongs to another model."""
    return StageFailed(
        f"proof of the adapter: {adapter / WEIGHTS} does not fit the base {base}: {why}",
        "set model.name to the model that it was trained on, or train again with force=[train]",
    )


def impossible(error: Exception) -> StageFailed:
    """The failure of an adapter that PEFT itself refuses."""
    return StageFailed(
        f"PEFT cannot merge this adapter: {_last_line(error)}",
        "train again with force=[train] and without what it names, or serve the adapter beside its base",
    )


@contextmanager
def fitting(adapter: Path, base: Path) -> Iterator[None]:
    """Turn what PEFT says while it puts an adapter on a model into a failure with its reason."""
    try:
        yield
    except REFUSALS as error:
        if any(words in str(error) for words in FOREIGN):
            raise another(adapter, base, _last_line(error)) from error
        raise impossible(error) from error


def dtype_of(model: Any) -> str:
    """A model's precision, such as `bfloat16`."""
    return str(model.dtype).removeprefix("torch.")


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
