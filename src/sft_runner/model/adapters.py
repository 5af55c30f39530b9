"""The adapter that a configuration asks for, as PEFT's `LoraConfig`, checked against the model it is for."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import Lora
from sft_runner.errors import UnknownName, UserError, raise_all

if TYPE_CHECKING:
    from peft import LoraConfig

ALL_LINEAR = "all-linear"
"""PEFT's word for every linear layer but the output head."""


def lora_config(lora: Lora, model: Any) -> "LoraConfig":
    """PEFT's configuration for `lora.*`. Raises `UserError` for targets that the model does not have."""
    from peft import LoraConfig

    targets: list[str] | str = lora.target_modules
    if targets == [ALL_LINEAR]:
        targets = ALL_LINEAR
    else:
        raise_all(list(_mistakes(lora.target_modules, model)))
    settled: Any = lora  # what may be open in it was filled in before any stage runs
    alpha = settled.lora_alpha
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settled.r,
        lora_alpha=int(alpha) if alpha == int(alpha) else alpha,  # servers expect a whole number
        lora_dropout=lora.lora_dropout,
        target_modules=targets,
        use_dora=lora.use_dora,
        use_rslora=lora.use_rslora,
        bias="none",
    )


def _mistakes(targets: list[str], model: Any) -> Iterator[UserError]:
    """Targets that match nothing, as PEFT matches them: a module's whole name, or its end after a dot."""
    head = model.get_output_embeddings()
    paths = [path for path, module in model.named_modules() if _can_have_adapter(module)]
    for target in targets:
        matched = [path for path in paths if path == target or path.endswith(f".{target}")]
        if not matched:
            known = {path.rpartition(".")[2] for path in paths if model.get_submodule(path) is not head}
            yield UnknownName("module", target, {*known, ALL_LINEAR}, "lora.target_modules: ")
        elif any(model.get_submodule(path) is head for path in matched):
            yield UserError(
                f"lora.target_modules: '{target}' is the output head, whose adapter TRL's fused loss would not train",
                f"leave it out; {ALL_LINEAR} does",
            )


def _can_have_adapter(module: Any) -> bool:
    """Whether PEFT's LoRA knows this kind of layer; bitsandbytes' layers are linear ones too."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | nn.Embedding | Conv1D)
