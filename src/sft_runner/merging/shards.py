"""A model's weights as they lie in their files: every tensor's type, shape and place, read from the headers alone.

A safetensors file is eight bytes with the length of its header (little-endian), the header as JSON, and the tensors'
bytes without gaps: https://github.com/huggingface/safetensors#format.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_runner.disk import read_json
from sft_runner.errors import UserError
from sft_runner.model import weights
from sft_runner.model.weights import INDEX

BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "I32": 32, "U32": 32, "I64": 64, "U64": 64, "C64": 64,
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
"""Bits of a value."""
FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Types of weights that can have an adapter, and their names in torch."""
ALIGNMENT = 8
"""The tensors begin at a multiple of so many bytes."""


@dataclass(frozen=True)
class Stored:
    """A tensor in a file."""

    name: str
    """Its name there."""
    dtype: str
    """Its type as safetensors writes it, such as `BF16`."""
    shape: tuple[int, ...]
    """Its shape."""
    start: int
    """Where its bytes begin, from the beginning of the file."""

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * BITS[self.dtype] // 8

    @property
    def end(self) -> int:
        """Where its bytes end."""
        return self.start + self.size


@dataclass(frozen=True)
class Shard:
    """One file of a model's weights."""

    path: Path
    """The file."""
    tensors: tuple[Stored, ...]
    """What it holds, in the order of the bytes."""
    metadata: Mapping[str, str]
    """What else its header says."""
    data: int
    """Where the tensors begin: the length of all that comes before them, in bytes."""

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.tensors[-1].end if self.tensors else self.data


def read(folder: Path) -> list[Shard]:
    """The files of a model. Raises `UserError` where one is missing, cut off or damaged, with a tensor lost."""
    named = weights.shards(folder)
    placed = _index(folder).get("weight_map", {})
    first: dict[str, str] = {}
    for tensor, name in placed.items():
        first.setdefault(name, tensor)
    found = [_shard(path, first.get(path.name, "")) for path in named]
    if not found:
        raise UserError(f"model.name: {folder / INDEX} is damaged", "fetch the model again")
    held = {(tensor.name, shard.path.name) for shard in found for tensor in shard.tensors}
    lost = next((item for item in placed.items() if item not in held), None)
    if lost:
        raise UserError(f"model.name: {folder / lost[1]} does not hold {lost[0]}, as its index says", "fetch it again")
    return found


def laid_out(path: Path, tensors: Iterable[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str]) -> Shard:
    """The file that has these tensors (name, type, shape) one behind the other."""
    tensors, place = list(tensors), 0
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    for name, dtype, shape in tensors:
        size = math.prod(shape) * BITS[dtype] // 8
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    data = len(_encoded(entries))
    stored = (Stored(n, d, s, data + entries[n]["data_offsets"][0]) for n, d, s in tensors)
    return Shard(path, tuple(stored), metadata, data)


def header(shard: Shard) -> bytes:
    """What a file begins with, as `laid_out` has measured it."""
    entries: dict[str, Any] = {"__metadata__": dict(shard.metadata)} if shard.metadata else {}
    for one in shard.tensors:
        offsets = [one.start - shard.data, one.end - shard.data]
        entries[one.name] = {"dtype": one.dtype, "shape": list(one.shape), "data_offsets": offsets}
    return _encoded(entries)


def index(base: Path, files: Iterable[Shard]) -> dict[str, Any]:
    """The index of `base`, made to fit other files."""
    files = list(files)
    values = _index(base)
    held = {tensor.name: (shard, tensor) for shard in files for tensor in shard.tensors}
    placed = {name: held[name][0].path.name for name in values["weight_map"] if name in held}
    placed |= {name: shard.path.name for name, (shard, _) in held.items() if name not in placed}
    metadata = values.get("metadata") or {}
    metadata["total_size"] = sum(tensor.size for _, tensor in held.values())
    if "total_parameters" in metadata:
        metadata["total_parameters"] = sum(math.prod(tensor.shape) for _, tensor in held.values())
    return values | {"metadata": metadata, "weight_map": placed}


def _index(folder: Path) -> dict[str, Any]:
    values = read_json(folder / INDEX)
    return values if isinstance(values, dict) else {}


def _encoded(entries: Mapping[str, Any]) -> bytes:
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _shard(path: Path, named: str) -> Shard:
    """One file's header; `named` is a tensor that the index says is in it."""
    lost = f", which holds {named}" if named else ""
    again = "fetch the model again"
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if length <= weights.LARGEST_HEADER else b""
            size = file.seek(0, 2)
    except FileNotFoundError:
        raise UserError(f"model.name: {path} is missing{lost}", again) from None
    data = 8 + length
    if size < data and length <= weights.LARGEST_HEADER:
        raise UserError(f"model.name: {path} is cut off{lost}: it ends within its header", again)
    try:
        entries = json.loads(text)
        metadata = entries.pop("__metadata__", None) or {}
        tensors = [
            Stored(name, one["dtype"], tuple(one["shape"]), data + one["data_offsets"][0])
            for name, one in sorted(entries.items(), key=lambda item: item[1]["data_offsets"])
        ]
        starts = [data, *(one.end for one in tensors)]
        ends = sorted(data + one["data_offsets"][1] for one in entries.values())
        gapless = [one.start for one in tensors] == starts[:-1] and ends == starts[1:] and size <= starts[-1]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        gapless, tensors, metadata, starts = False, [], {}, [data]
    if not gapless:
        raise UserError(f"model.name: {path} is no safetensors file, or damaged{lost}", again)
    if size < starts[-1]:
        first = next(one.name for one in tensors if one.end > size)
        raise UserError(
            f"model.name: {path} is cut off: it has {size:,} of {starts[-1]:,} bytes, {first} is the first tensor "
            "that is not whole",
            again,
        )
    return Shard(path, tuple(tensors), metadata, data)
