"""The weights of a model's folder as those of a GGUF file, a few rows at a time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.errors import StageFailed, UserError
from sft_runner.exporting.gguf.families import REMEDY, Family

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHUNK = 1 << 24
"""Values that are converted at once: 64 MB in float32."""
BLOCK = 32
"""Values of one block of q8_0, which have one scale."""
TYPES = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
"""Types of safetensors -> those of `gguf.type`."""


@dataclass(frozen=True)
class Weight:
    """One tensor on its way into the file."""

    source: str
    """Its name in the model's folder."""
    file: Path
    """Where it lies there."""
    name: str
    """Its name for llama.cpp."""
    shape: tuple[int, ...]
    """Rows first."""
    kind: str
    """`f32`, `f16`, `bf16` or `q8_0`."""

    @property
    def size(self) -> int:
        """Bytes in the file."""
        import gguf

        values = 1
        for one in self.shape:
            values *= one
        block, size = gguf.GGML_QUANT_SIZES[ggml_type(self.kind)]
        return int(values // block * size)


def ggml_type(kind: str) -> Any:
    """The type of ggml that a word of `gguf.type` means."""
    import gguf

    return gguf.GGMLQuantizationType[kind.upper()]


def weights(model: Path, config: Mapping[str, Any], family: Family, kind: str) -> list[Weight]:
    """All tensors in llama.cpp's order; `kind` may be `auto`. Raises `UserError` for one that it has no name for."""
    import gguf
    from safetensors import safe_open

    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == family.arch)
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    found: list[Weight] = []
    for file in sorted(model.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            for source in opened.keys():  # noqa: SIM118
                if source == "lm_head.weight" and config.get("tie_word_embeddings"):
                    continue
                name = names.get_name(source, (".weight", ".bias"))
                if name is None:
                    raise UserError(f"export: gguf has no name for the tensor {source} of {file.name}", REMEDY)
                piece = opened.get_slice(source)
                shape, stored = tuple(piece.get_shape()), piece.get_dtype()
                if stored not in TYPES:
                    raise UserError(f"export: gguf: {source} of {file.name} is stored as {stored}", REMEDY)
                found.append(Weight(source, file, name, shape, _kind(kind, shape, stored)))
    order = {name: place for place, name in enumerate(_ordered(family, config))}
    return sorted(found, key=lambda one: (order.get(one.name.rpartition(".")[0], len(order)), one.name))


def rows(weight: Weight, config: Mapping[str, Any], family: Family) -> "Iterator[NDArray[np.uint8]]":
    """The bytes of a tensor as llama.cpp has them. Raises `StageFailed` for values that the type cannot hold."""
    import gguf
    import numpy as np
    from safetensors import safe_open

    heads = _heads(weight, config) if family.interleaved else 0
    with safe_open(weight.file, "pt") as opened:
        piece = opened.get_slice(weight.source)
        width = weight.shape[-1] if len(weight.shape) > 1 else 1
        step = weight.shape[0] if heads or len(weight.shape) == 1 else max(1, CHUNK // width)
        for start in range(0, weight.shape[0], step):
            values: NDArray[np.float32] = piece[start : start + step].float().numpy()
            if heads:
                halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
                values = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)
            if family.shifted_norms and weight.name.endswith("norm.weight"):
                values = values + 1
            with np.errstate(over="ignore"):
                made = np.ascontiguousarray(gguf.quantize(values, ggml_type(weight.kind)))
            if weight.kind == "f16" and not np.isfinite(made).all():
                raise StageFailed(f"gguf: {weight.source} has values that float16 cannot hold", "use gguf.type=bf16")
            yield made.view(np.uint8)


def _kind(asked: str, shape: tuple[int, ...], stored: str) -> str:
    """How a tensor is stored: vectors always whole, and rows that are no blocks in 16 bits."""
    if len(shape) == 1:
        return "f32"
    if asked == "auto":
        return TYPES[stored]
    return "f16" if asked == "q8_0" and shape[-1] % BLOCK else asked


def _heads(weight: Weight, config: Mapping[str, Any]) -> int:
    """Heads of a projection whose rows move; 0 for any other tensor."""
    queries = int(config["num_attention_heads"])
    if ".attn_q." in weight.name:
        return queries
    return int(config.get("num_key_value_heads") or queries) if ".attn_k." in weight.name else 0


def _ordered(family: Family, config: Mapping[str, Any]) -> Iterator[str]:
    """Names in the order in which a model reads them."""
    import gguf

    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == family.arch)
    kinds = [gguf.TENSOR_NAMES[kind] for kind in gguf.MODEL_TENSORS[arch]]
    yield from (name for name in kinds if name.startswith("token_embd"))
    for layer in range(config["num_hidden_layers"]):
        yield from (name.format(bid=layer) for name in kinds if "{bid}" in name)
    yield from (name for name in kinds if "{bid}" not in name and not name.startswith("token_embd"))
