"""The adapter that a configuration asks for, as PEFT's `LoraConfig`, checked against the model it is for.

transformers holds the experts of a mixture-of-experts model in parameters of three dimensions. PEFT reaches them by
`target_parameters`; for the families that it knows, `all-linear` means them and the router too.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import ALL_LINEAR, Lora
from sft_runner.errors import UnknownName, UserError, raise_all
from sft_runner.model.starts import moves

if TYPE_CHECKING:
    from peft import LoraConfig


def lora_config(lora: Lora, model: Any) -> "LoraConfig":
    """PEFT's configuration for `lora.*`. Raises `UserError` for what the model does not have, or cannot have."""
    from peft import LoraConfig

    everything = lora.target_modules == [ALL_LINEAR]
    errors = [] if everything else list(_unknown_modules(lora.target_modules, model))
    raise_all([*errors, *_unknown_parameters(lora.target_parameters, model), *_unfit(lora, model)])
    settled: Any = lora  # what may be open in it was filled in before any stage runs
    alpha = settled.lora_alpha
    start: Any = True if lora.init_lora_weights == "default" else lora.init_lora_weights
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settled.r,
        lora_alpha=int(alpha) if alpha == int(alpha) else alpha,  # servers expect a whole number
        lora_dropout=lora.lora_dropout,
        target_modules=ALL_LINEAR if everything else lora.target_modules,
        target_parameters=lora.target_parameters or None,
        init_lora_weights=start,
        use_dora=lora.use_dora,
        use_rslora=lora.use_rslora,
        bias="none",
    )


def notes(model: Any) -> list[str]:
    """What a person should know about the adapter of a `PeftModel`: which experts it leaves as they are."""
    frozen = frozen_experts(model)
    if not frozen:
        return []
    hint = f"lora.target_parameters=[{','.join(f'experts.{name}' for name in frozen)}]"
    return [f"the experts' {' and '.join(frozen)} stay as they are; {hint} trains them"]


def frozen_experts(model: Any) -> list[str]:
    """The names of experts' parameters that no adapter of a `PeftModel` reaches, each once for all layers."""
    from peft import PeftModel
    from peft.tuners.lora.layer import ParamWrapper

    if not isinstance(model, PeftModel):
        return []  # all of it trains

    reached = {
        f"{name.replace('.base_layer', '')}.{module.parameter_name}"
        for name, module in model.named_modules()
        if isinstance(module, ParamWrapper)
    }
    names = (name.replace(".base_layer", "") for name in _experts(model))
    return sorted({name.rpartition(".experts.")[2] for name in names if name not in reached})


def _unknown_modules(targets: list[str], model: Any) -> Iterator[UserError]:
    """Targets that match nothing, as PEFT matches them: a module's whole name, or its end after a dot."""
    head = model.get_output_embeddings()
    paths = [path for path, module in model.named_modules() if _can_have_adapter(module)]
    for target in targets:
        matched = [path for path in paths if _names(target, path)]
        if not matched:
            known = {path.rpartition(".")[2] for path in paths if model.get_submodule(path) is not head}
            yield UnknownName("module", target, {*known, ALL_LINEAR}, "lora.target_modules: ")
        elif any(model.get_submodule(path) is head for path in matched):
            yield UserError(
                f"lora.target_modules: '{target}' is the output head, whose adapter TRL's fused loss would not train",
                f"leave it out; {ALL_LINEAR} does",
            )


def _unknown_parameters(targets: list[str], model: Any) -> Iterator[UserError]:
    """Parameters that match nothing, or that belong to a module which can have an adapter of its own."""
    paths = _parameters(model, dimensions=(2, 3))
    for target in targets:
        if any(_names(target, path) for path in paths):
            continue
        if paths:
            known = {".".join(path.split(".")[-2:]) for path in paths}
            yield UnknownName("parameter", target, known, "lora.target_parameters: ")
        else:
            hint = "leave lora.target_parameters out; linear layers are reached by lora.target_modules"
            yield UserError(f"lora.target_parameters: the model has no experts, so no '{target}'", hint)


def _unfit(lora: Lora, model: Any) -> Iterator[UserError]:
    """What the model's layers cannot have."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    everything = lora.target_modules == [ALL_LINEAR]
    if everything and _experts(model):
        for key, unusual in (
            ("lora.use_dora", lora.use_dora),
            ("lora.lora_dropout", lora.lora_dropout > 0),
            ("lora.init_lora_weights", lora.init_lora_weights not in ("default", "gaussian")),
        ):
            if unusual:
                hint = "name the modules outside the experts: lora.target_modules=[q_proj,k_proj,v_proj,o_proj]"
                yield UserError(f"{key} does not go with experts, which {ALL_LINEAR} may reach", hint)
    if moves(lora):
        head = model.get_output_embeddings()
        linear = ((n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D) and m is not head)
        found = [(n, m) for n, m in linear if everything or any(_names(target, n) for target in lora.target_modules)]
        name, smallest = min(((n, min(m.weight.shape)) for n, m in found), key=lambda item: item[1], default=("", 0))
        start = f"lora.init_lora_weights={lora.init_lora_weights}"
        if not found:
            yield UserError(f"{start}: no target is a linear layer, and it is about these", "use the default start")
        elif lora.init_lora_weights == "olora" and any(isinstance(m, Conv1D) for _, m in found):
            yield UserError(f"{start}: {name} is stored transposed, which PEFT's OLoRA misreads", "use pissa")
        elif (lora.r or 0) > smallest:
            hint = f"use lora.r={smallest}, or lora.init_lora_weights=default"
            yield UserError(f"{start}: the weight of {name} has no {lora.r} directions, only {smallest}", hint)


def _experts(model: Any) -> list[str]:
    """The parameters that hold all experts of a layer."""
    return _parameters(model, dimensions=(3,))


def _parameters(model: Any, dimensions: tuple[int, ...]) -> list[str]:
    """The matrices that are no linear layer's, embedding's or convolution's own weight, nor an adapter's."""
    from torch.nn.modules.conv import _ConvNd

    return [
        f"{path}.{name}"
        for path, module in model.named_modules()
        if not isinstance(module, _ConvNd) and not _can_have_adapter(module) and ".lora_" not in f".{path}"
        for name, value in module.named_parameters(recurse=False)
        if value.ndim in dimensions
    ]


def _names(target: str, path: str) -> bool:
    """Whether a target means this module or parameter, as PEFT reads it."""
    return path == target or path.endswith(f".{target}")


def _can_have_adapter(module: Any) -> bool:
    """Whether PEFT's LoRA knows this kind of layer; bitsandbytes' layers are linear ones too."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | nn.Embedding | Conv1D)
