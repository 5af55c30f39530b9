"""One weight with its adapter. PEFT's own layer calculates it, but for plain LoRA in 16 bits."""

from typing import TYPE_CHECKING, Any

from sft_runner.errors import NotFinite, StageFailed
from sft_runner.merging import loading
from sft_runner.merging.layers import NAME, Edit

if TYPE_CHECKING:
    from torch import Tensor


def by_rows(edit: Edit) -> bool:
    """Whether rows of the weight can be merged one by one: a linear layer with plain LoRA or with DoRA."""
    from peft.tuners.lora.layer import Linear
    from peft.tuners.lora.variants import DoraLinearVariant

    layer = edit.layer
    if type(layer) is not Linear or edit.replaced is not None or layer.fan_in_fan_out:
        return False
    return all(type(variant) is DoraLinearVariant for variant in layer.lora_variant.values())


def rows(edit: Edit, before: "Tensor", after: "Tensor", room: "Tensor", first: int, name: str) -> None:
    """Merge rows of a weight in 16 bits, of which `first` is the first; `room` is as large in float32.

    Plain LoRA is W + s B A, rounded once; PEFT rounds s B A to 16 bits before it adds it, and the sum again. DoRA,
    whose lengths are those of rows, is merged by PEFT's own layer around these rows.
    Raises `StageFailed` for values that are not finite.
    """
    layer = edit.layer
    if layer.lora_variant:
        part = _part(layer, first, len(before))
        after.copy_(whole(Edit(edit.module, edit.source, part, edit.attribute), before, name))
        return
    below, above = layer.lora_B[NAME].weight, layer.lora_A[NAME].weight
    room.copy_(before)
    room.addmm_(below[first : first + len(before)], above, alpha=layer.scaling[NAME])
    after.copy_(room)
    if not is_finite(after):
        raise not_finite(name)


def whole(edit: Edit, weight: "Tensor", name: str) -> "Tensor":
    """A weight with its adapter, in its own precision; `weight` stays as it is.

    Raises `NotFinite`, and `StageFailed` where PEFT cannot do it.
    """
    import torch

    if edit.replaced is not None:
        weight = edit.replaced.to(weight.dtype)
        if not is_finite(weight):
            raise not_finite(name)
    if edit.layer is None:
        return weight
    module: Any = edit.layer.get_base_layer()
    empty = getattr(module, edit.attribute)
    setattr(module, edit.attribute, torch.nn.Parameter(weight, requires_grad=False))
    try:
        edit.layer.merge(safe_merge=True)
        merged: Tensor = getattr(module, edit.attribute).data
    except loading.REFUSALS as error:
        raise failed(error, name) from error
    finally:
        setattr(module, edit.attribute, empty)
    return merged


def _part(layer: Any, first: int, count: int) -> Any:
    """PEFT's layer for some rows of the weight of another one with DoRA."""
    import torch
    from peft import LoraConfig
    from peft.tuners.lora.layer import Linear

    rank, alpha = layer.r[NAME], layer.lora_alpha[NAME]
    config: Any = LoraConfig(r=rank, lora_alpha=alpha, use_dora=True, init_lora_weights=False)
    with torch.device("meta"):
        around = torch.nn.Linear(layer.in_features, count, bias=False)
        part: Any = Linear(around, NAME, config, rank, alpha)
    chosen = slice(first, first + count)
    part.scaling[NAME] = layer.scaling[NAME]
    part.lora_A[NAME].weight = layer.lora_A[NAME].weight
    part.lora_B[NAME].weight = torch.nn.Parameter(layer.lora_B[NAME].weight[chosen], requires_grad=False)
    lengths = layer.lora_magnitude_vector[NAME].weight[chosen]
    part.lora_magnitude_vector[NAME].weight = torch.nn.Parameter(lengths, requires_grad=False)
    return part


def is_finite(values: "Tensor") -> bool:
    """Whether all values are numbers, in one pass and without a second tensor."""
    import torch

    if not values.numel():
        return True
    lowest, highest = torch.aminmax(values)
    return bool(lowest.isfinite() and highest.isfinite())


def failed(error: Exception, name: str) -> StageFailed:
    """The failure of PEFT's own merge."""
    return not_finite(name) if "NaNs detected" in str(error) else loading.impossible(error)


def not_finite(name: str) -> NotFinite:
    """The failure of an adapter that broke a weight."""
    return NotFinite(
        f"the merged weights are not finite: {name} has values that are no numbers",
        "train again with a lower train.learning_rate",
    )


def traceless(modules: int, dtype: str) -> StageFailed:
    """The failure of an adapter that is not zero and changed nothing."""
    return StageFailed(
        f"merging changed none of the {modules} adapted modules: the adapter is smaller than one rounding step "
        f"of {dtype}",
        "train longer or with a higher train.learning_rate",
    )
