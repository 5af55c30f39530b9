"""What an adapter does to each tensor of the base's files, told by PEFT without the base's weights.

PEFT puts its layers around a model that has shapes and no weights (on torch's meta device), so it alone decides which
modules an adapter reaches, of which rank, how it is scaled and which kind of layer merges it.
"""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.merging import loading
from sft_runner.merging.loading import PREFIX, another, configuration, fitting, vocabulary
from sft_runner.merging.shards import FLOATS, Stored
from sft_runner.merging.skeleton import names as files_of
from sft_runner.merging.skeleton import skeleton

if TYPE_CHECKING:
    from torch import Tensor

NAME = "default"
"""What PEFT calls the only adapter."""
STARTS = (True, False, "gaussian", "orthogonal", "eva")
"""Values of `init_lora_weights` that leave the base's weights as they are."""


class Unstreamable(Exception):
    """Only PEFT itself, with the whole model in memory, can merge this; the message says why."""


@dataclass
class Edit:
    """What becomes of one tensor of the files."""

    module: str
    """The module that it belongs to."""
    source: str
    """The tensor of the base's files that it is made from."""
    layer: Any = None
    """The PEFT layer that merges it, holding the adapter's weights and none of the base's; None where there is none."""
    attribute: str = "weight"
    """What the tensor is called in the layer's module."""
    replaced: "Tensor | None" = None
    """What was trained in its stead, where a whole module was saved beside the adapter."""


@dataclass
class Fitted:
    """An adapter, fitted to the files of its base."""

    edits: dict[str, Edit] = field(default_factory=dict)
    """By the name of the tensor in the merged files; all others are the base's."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Values of the text model in `config.json` that change with it."""
    acts: bool = False
    """Whether its factors can change anything: PEFT starts one of each two at zero."""


def fit(base: Path, adapter: Path, stored: Iterable[Stored], own_code: bool = False) -> Fitted:
    """Find the place of every weight of an adapter. Raises `StageFailed` where it does not fit, and `Unstreamable`."""
    config = configuration(adapter)
    _check(config)
    saved = loading.saved(adapter)
    model = skeleton(base, own_code)
    if rows := vocabulary(model, {name: value.shape for name, value in saved.items()}):
        model.resize_token_embeddings(rows, mean_resizing=False)
    files = {one.name: one for one in stored}
    tied = _tied(model)
    plain = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    names = files_of(model, files).files
    layers, saved = _layers(model, config, saved, adapter, base)
    found: dict[str, Edit] = {}
    acts = False
    for path, layer in layers.items():
        module = path.replace(".base_layer", "")
        attribute = getattr(layer, "parameter_name", "weight")
        name = f"{module}.{attribute}"
        source = _source(name, names, tied)
        acts |= _fill(layer, path, saved, adapter, base, bool(source and files[source].dtype == "F64"))
        found[name] = Edit(module, "", layer, attribute)
    for name, value in saved.items():  # `_fill` has taken what belongs to layers
        part = name.removeprefix(PREFIX).replace(".base_layer.", ".")
        if part not in plain or tuple(value.shape) != plain[part]:
            raise another(adapter, base, f"it has {name} of shape {tuple(value.shape)}")
        found.setdefault(part, Edit(part.rpartition(".")[0], "")).replaced = value
    _share(found, tied, config.modules_to_save or ())
    settings: dict[str, Any] = {"vocab_size": rows} if rows else {}
    if _parted(found, tied):
        settings["tie_word_embeddings"] = False
    return Fitted(_placed(found, names, files, plain, tied), settings, acts)


def _check(config: Any) -> None:
    """Raise `Unstreamable` for what is more than factors beside weights."""
    from peft import LoraConfig

    unusual = ("trainable_token_indices", "lora_bias", "ensure_weight_tying", "alora_invocation_tokens")
    if type(config) is not LoraConfig:
        raise Unstreamable(f"the adapter is of PEFT's kind {config.peft_type}")
    if config.init_lora_weights not in STARTS:
        raise Unstreamable(f"the adapter starts with init_lora_weights={config.init_lora_weights}")
    for name in unusual:
        if getattr(config, name, None):
            raise Unstreamable(f"the adapter has {name}")


def _tied(model: Any) -> tuple[str, str]:
    """The names of embedding and head where they are one tensor, else nothing twice."""
    parts = model.get_input_embeddings(), model.get_output_embeddings()
    if parts[1] is None or not model.config.get_text_config().tie_word_embeddings:
        return "", ""
    names = {id(module): f"{name}.weight" for name, module in model.named_modules()}
    return names[id(parts[0])], names[id(parts[1])]


def _layers(
    model: Any, config: Any, saved: "dict[str, Tensor]", adapter: Path, base: Path
) -> "tuple[dict[str, Any], dict[str, Tensor]]":
    """PEFT's layers by their paths, and the adapter's weights by the names that they have there; `model` is used up."""
    import torch
    from peft import PeftModelForCausalLM
    from peft.tuners.lora import layer as kinds
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.transformers_weight_conversion import convert_peft_adapter_state_dict_for_transformers

    config.inference_mode = True
    with torch.device("meta"), warnings.catch_warnings(), fitting(adapter, base):
        warnings.simplefilter("ignore")  # of tied weights, which are parted here
        adapted = PeftModelForCausalLM(model, config, NAME, low_cpu_mem_usage=True)
    converted = convert_peft_adapter_state_dict_for_transformers(adapted, config, saved, NAME)
    modules = adapted.get_base_model().named_modules()
    layers = {path: module for path, module in modules if isinstance(module, BaseTunerLayer)}
    for path, layer in layers.items():
        if type(layer) not in (kinds.Linear, kinds.Embedding, kinds.ParamWrapper):
            raise Unstreamable(f"{path} is a layer of PEFT's kind {type(layer).__name__}")
    return layers, dict(converted)


def _fill(layer: Any, path: str, saved: "dict[str, Tensor]", adapter: Path, base: Path, double: bool) -> bool:
    """Give a layer its weights, which are taken out of `saved`; whether they change anything.

    PEFT calculates in float32, and in `double` precision where the base has it.
    """
    import torch

    acts = True
    for part, value in list(layer.named_parameters()):
        if ".base_layer." in f".{part}" or f".{NAME}" not in f".{part}.":
            continue
        name = f"{PREFIX}{path}.{part.replace(f'.{NAME}', '')}"
        found = saved.pop(name, None)
        if found is None and "magnitude" in part:
            found = saved.pop(name.removesuffix(".weight"), None)
        if found is None:
            raise another(adapter, base, f"it lacks {name}")
        if found.shape != value.shape:
            shapes = f"{tuple(found.shape)}, and the base needs {tuple(value.shape)}"
            raise another(adapter, base, f"its {name} has the shape {shapes}")
        holder, _, own = part.rpartition(".")
        parameter = torch.nn.Parameter(found.to(torch.float64 if double else torch.float32), requires_grad=False)
        target = layer.get_submodule(holder)
        if isinstance(target, torch.nn.ParameterDict):
            target[own] = parameter
        else:
            setattr(target, own, parameter)
        acts = acts and ("magnitude" in part or bool(found.any()))
    return acts


def _source(name: str, names: Mapping[str, str], tied: tuple[str, str]) -> str | None:
    """The tensor of the files that a weight is read from; of two that are tied it may be the other's."""
    twins = tied if name in tied else ()
    return next((names[one] for one in (name, *twins) if one in names), None)


def _share(found: dict[str, Edit], tied: tuple[str, str], kept: Iterable[str]) -> None:
    """Let embedding and head have the same new weights where they are one tensor and one name for it was saved.

    PEFT loads what was saved into that one tensor, unless the module is one of those `kept` apart (`modules_to_save`).
    """
    for one, two in (tied, tied[::-1]):
        edit, module = found.get(one), one.removesuffix(".weight")
        if edit is None or edit.replaced is None or any(f".{module}".endswith(f".{name}") for name in kept):
            continue
        other = found.setdefault(two, Edit(two.removesuffix(".weight"), ""))
        if other.replaced is None:
            other.replaced = edit.replaced


def _parted(found: Mapping[str, Edit], tied: tuple[str, str]) -> bool:
    """Whether embedding and head, which were one tensor, are two afterwards."""
    import torch

    one, two = (found.get(name, Edit(name, "")) for name in tied)
    if tied == ("", "") or not any(edit.layer or edit.replaced is not None for edit in (one, two)):
        return False
    if one.layer or two.layer or one.replaced is None or two.replaced is None:
        return True
    return not torch.equal(one.replaced, two.replaced)


def _placed(
    found: Mapping[str, Edit],
    names: Mapping[str, str],
    files: Mapping[str, Stored],
    plain: Mapping[str, tuple[int, ...]],
    tied: tuple[str, str],
) -> dict[str, Edit]:
    """The edits by the names of the files' tensors. Where embedding and head part, both are among them."""
    wanted = dict(found)
    for name in tied if tied != ("", "") else ():
        if _parted(found, tied):
            wanted.setdefault(name, Edit(name.removesuffix(".weight"), ""))
        elif name not in names:
            wanted.pop(name, None)
    placed: dict[str, Edit] = {}
    for name, edit in wanted.items():
        source = _source(name, names, tied)
        if source is None:
            raise Unstreamable(f"the files of the base hold {name} otherwise than transformers does")
        shape = files[source].shape
        if shape != plain[name] and (edit.replaced is None or shape[1:] != plain[name][1:]):
            raise Unstreamable(f"{source} has the shape {shape} in the base's files, {plain[name]} in transformers")
        if files[source].dtype not in FLOATS:
            raise Unstreamable(f"{source} is stored as {files[source].dtype}")
        edit.source = source
        placed[names.get(name, name)] = edit
    return placed
