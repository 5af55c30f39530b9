"""One weight with its adapter. PEFT's own layer calculates it; a plain LoRA in 16 bits goes by rows, in the cache."""

from typing import TYPE_CHECKING, Any

from sft_runner.errors import StageFailed
from sft_runner.merging.layers import NAME, Edit

if TYPE_CHECKING:
    from torch import Tensor


def is_plain(edit: Edit) -> bool:
    """Whether rows of the weight can be merged one by one: a linear layer with two factors and nothing else."""
    from peft.tuners.lora.layer import Linear

    layer = edit.layer
    return type(layer) is Linear and edit.replaced is None and not layer.lora_variant and not layer.fan_in_fan_out


def add(edit: Edit, weight: "Tensor", first: int) -> None:
    """Add the adapter's share to rows of a weight in float32, of which `first` is the first, in place: W + s B A.

    PEFT rounds s B A to the weight's 16 bits before it adds it, and the sum again; here only the sum is rounded.
    """
    layer = edit.layer
    below, above = layer.lora_B[NAME].weight, layer.lora_A[NAME].weight
    weight.addmm_(below[first : first + len(weight)], above, alpha=layer.scaling[NAME])


def whole(edit: Edit, weight: "Tensor", name: str) -> "Tensor":
    """A weight with its adapter, in its own precision; `weight` stays as it is.

    Raises `StageFailed` for values that are not finite.
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
    except ValueError as error:  # PEFT found values that are not finite
        raise not_finite(name) from error
    finally:
        setattr(module, edit.attribute, empty)
    return merged


def is_finite(values: "Tensor") -> bool:
    """Whether all values are numbers, in one pass and without a second tensor."""
    import torch

    if not values.numel():
        return True
    lowest, highest = torch.aminmax(values)
    return bool(lowest.isfinite() and highest.isfinite())


def not_finite(name: str) -> StageFailed:
    """The failure of an adapter that broke a weight."""
    return StageFailed(
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
