"""A model without its weights: which layers it has, and which tensor of its files is the weight of which layer."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import Config
from sft_runner.merging.loading import another, configuration, fitting, saved, vocabulary

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig


@dataclass(frozen=True)
class Names:
    """What a model's files call its parameters."""

    files: dict[str, str]
    """Parameter -> tensor in the files, where the one is the other, bit for bit."""
    converted: list[str]
    """Tensors that transformers makes parameters of, such as experts that it stacks."""
    unknown: list[str]
    """Tensors that are no parameter, such as buffers of older versions."""


@dataclass(frozen=True)
class Layer:
    """A linear layer that training quantized."""

    inputs: int
    """Width of its rows."""
    turned: bool
    """Whether it is stored transposed, as GPT-2's are, and was turned before."""


def skeleton(folder: Path, own_code: bool = False, quantized: "BitsAndBytesConfig | None" = None) -> Any:
    """The model of a folder on torch's meta device, with bitsandbytes' layers where it would load quantized."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.quantizers.auto import AutoHfQuantizer

    config = AutoConfig.from_pretrained(folder, trust_remote_code=own_code, local_files_only=True)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=own_code)  # type: ignore[no-untyped-call]
    if quantized is not None:
        quantizer: Any = AutoHfQuantizer.from_config(quantized, pre_quantized=False)
        quantizer.preprocess_model(model=model, device_map={"": "cpu"})
    return model


def quantized_layers(config: Config, base: Path, own_code: bool = False) -> dict[str, Layer]:
    """The tensors of the base's files that training quantized, by transformers' own rule."""
    from transformers.pytorch_utils import Conv1D

    from sft_runner.merging.tensors import Tensors
    from sft_runner.model.loading import quantization

    model = skeleton(base, own_code, quantization(config))
    layers = {
        f"{name}.weight": Layer(module.in_features, issubclass(module.source_cls, Conv1D))
        for name, module in model.named_modules()
        if type(module).__name__ in ("Linear4bit", "Linear8bitLt")
    }
    files = names(model, Tensors.of(base, "the base").names).files
    return {file: layers[parameter] for parameter, file in files.items() if parameter in layers}


def adapted(base: Path, adapter: Path, own_code: bool = False) -> Any:
    """A skeleton with PEFT's layers around it, whose own weights are real and on the CPU.

    Raises `StageFailed` for an adapter that is damaged, or was made for another model.
    """
    from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

    config, written = configuration(adapter), saved(adapter)
    config.inference_mode = True
    empty = skeleton(base, own_code)
    if rows := vocabulary(empty, {name: value.shape for name, value in written.items()}):
        empty.resize_token_embeddings(rows, mean_resizing=False)
    with warnings.catch_warnings():
        # PEFT warns of an adapter on tied embeddings, which merging unties
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
        with fitting(adapter, base):
            model: Any = PeftModel(empty, config, low_cpu_mem_usage=True)
            for module in model.modules():
                if hasattr(module, "_move_adapter_to_device_of_base_layer"):
                    module._move_adapter_to_device_of_base_layer = _stay  # PEFT would move what it loads to "meta"
            loaded: Any = set_peft_model_state_dict(model, written, low_cpu_mem_usage=True)
        expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    if loaded.unexpected_keys:
        raise another(adapter, base, f"the base has no layer for {_some(loaded.unexpected_keys)}")
    if lost := [name for name, value in expected.items() if value.is_meta]:
        raise another(adapter, base, f"it lacks {_some(lost)}")
    return model.eval()


def names(model: Any, tensors: Iterable[str]) -> Names:
    """How the names of a model's files become those of its parameters when transformers loads it."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    mapping = get_model_conversion_mapping(model)
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
    state, prefix = model.state_dict(), model.base_model_prefix
    found = Names({}, [], [])
    for name in sorted(tensors):
        parameter, converted = rename_source_key(name, renamings, converters, prefix, state)
        if parameter not in state and name in state:
            parameter, converted = rename_source_key(name, [], [], prefix, state)
        if parameter not in state:
            found.unknown.append(name)
        elif converted is not None:
            found.converted.append(name)
        else:
            found.files[parameter] = name
    return found


def _stay(*_: Any, **__: Any) -> None:
    """Move nothing."""


def _some(found: Iterable[str]) -> str:
    """The first of some names, and how many more there are."""
    first, *more = sorted(found)
    return first + (f" and {len(more)} more" if more else "")
