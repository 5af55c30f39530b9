"""A model's weights as their files tell them, from the headers alone: quick for many shards, and without a library."""

import json
import math
from pathlib import Path
from typing import Any

from sft_runner.disk import read_json

FLOATS = ("F64", "F32", "F16", "BF16")
"""Types of weights; others in a header are indices, or what a quantisation packed."""
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
"""The file that says which shard holds which tensor, and the only file of a model that has none."""
LARGEST_HEADER = 100_000_000
"""Bytes that safetensors itself allows for a header."""


def sizes(folder: Path) -> dict[str, int]:
    """Name -> elements of every weight in a model's folder; nothing where a file is damaged."""
    found: dict[str, int] = {}
    for path in shards(folder):
        header = _header(path)
        if header is None:
            return {}
        for name, tensor in header.items():
            if name == "__metadata__":
                continue
            dtype, shape = (tensor.get("dtype"), tensor.get("shape")) if isinstance(tensor, dict) else (None, None)
            if not isinstance(shape, list) or not all(type(width) is int and width >= 0 for width in shape):
                return {}
            if dtype in FLOATS and not name.endswith("inv_freq"):
                found[name] = math.prod(shape)
    return found


def shards(folder: Path) -> list[Path]:
    """The files that the index names, else the one file; none where the index is damaged or leads out of the folder."""
    index = folder / INDEX
    if not index.is_file():
        return [folder / SINGLE]
    values = read_json(index)
    named = values.get("weight_map") if isinstance(values, dict) else None
    names = list(named.values()) if isinstance(named, dict) else []
    if not all(isinstance(name, str) and name == Path(name).name for name in names):
        return []
    return [folder / name for name in sorted(set(names))]


def _header(path: Path) -> dict[str, Any] | None:
    """A safetensors header: eight bytes with its length, then JSON. None where it cannot be read."""
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            values = json.loads(file.read(size)) if size <= LARGEST_HEADER else None
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None
