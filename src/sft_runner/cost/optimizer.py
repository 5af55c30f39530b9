"""Bytes of optimizer states, by the names of transformers' `OptimizerNames`."""

from collections.abc import Mapping
from math import ceil, prod

BLOCK = 256
"""Values that share a scale in bitsandbytes' 8-bit states."""
SMALLEST = 4096
"""Tensors with fewer values keep 32-bit states in bitsandbytes' 8-bit optimizers."""
_TABLES = 2 * 256 * 4
"""The two tables of 8-bit codes that all states share."""
_STATES = {"ademamix": 3, "lion": 1, "rmsprop": 1, "adagrad": 1, "sgd": 0}
"""Values kept for each parameter, where they are not AdamW's two."""


def state_bytes(name: str, shapes: Mapping[tuple[int, ...], int], itemsize: int) -> int:
    """Bytes of the states of tensors (shape and how many) that train in `itemsize` bytes a value.

    torch keeps them in the parameter's own precision, bitsandbytes in float32 or in 8 bits with a scale for each
    block, Adafactor (Shazeer and Stern 2018) as sums of rows and columns. Names that are not known count as AdamW in
    float32. Paged states count in full: they leave the card only when it is full.
    """
    family = name.removeprefix("paged_")
    count = next((states for start, states in _STATES.items() if family.startswith(start)), 2)
    if family == "adafactor":
        return sum(4 * (_factored(shape) + 1) * many for shape, many in shapes.items())
    if count == 0:
        return 0
    if family.endswith(("8bit", "4bit")):
        bits = 4 if family.endswith("4bit") else 8
        return _TABLES + sum(count * _quantised(prod(shape), bits) * many for shape, many in shapes.items())
    size = itemsize if family in ("adamw_torch", "adamw_torch_fused", "rmsprop", "adagrad") else 4
    step = 4 if family.startswith(("adamw_torch", "rmsprop", "adagrad")) else 0
    return sum((count * size * prod(shape) + step) * many for shape, many in shapes.items())


def workspace_bytes(name: str, values: int, itemsize: int) -> int:
    """Bytes of what a step makes and drops: torch's AdamW that is not fused works on copies of all gradients."""
    return values * itemsize if name in ("adamw_torch", "rmsprop", "adagrad", "sgd") else 0


def _quantised(values: int, bits: int) -> int:
    if values < SMALLEST:
        return 4 * values
    return ceil(values * bits / 8) + 4 * ceil(values / BLOCK)


def _factored(shape: tuple[int, ...]) -> int:
    """Values that Adafactor keeps."""
    if len(shape) < 2:
        return prod(shape)
    return prod(shape[:-2]) * (shape[-1] + shape[-2])
