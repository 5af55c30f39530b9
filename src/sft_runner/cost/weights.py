"""Bytes of a model's weights as they are stored while it trains."""

from math import ceil

from sft_runner.config.schema import Config
from sft_runner.cost.parameters import adapter_parameters, matrices_of, parameters
from sft_runner.cost.precision import of_arithmetic, of_model, of_trained, trains_all
from sft_runner.model.architecture import Architecture

BLOCK, NESTED_BLOCK = 64, 256
"""Weights that share a scale in NF4, and scales that share one in double quantisation (Dettmers et al. 2023, 3)."""
_TABLES = 4 * (16 + 256 + 1)
"""For each matrix the codes of weights and of scales, and the mean of the scales."""


def base_bytes(config: Config, arch: Architecture) -> int:
    """Bytes of the model's own weights. Linear layers are quantised, by bitsandbytes or in the model's files already;
    the rest keeps its precision."""
    size = of_model(config)
    bits = {0: config.quantization.bits, 4: "4"}.get(arch.stored_bits, "8")
    total = size * parameters(arch).total
    if bits == "none" or trains_all(config):
        return total
    stored = nf4_bytes if bits == "4" else int8_bytes
    for matrix in matrices_of(arch):
        if _is_linear(matrix.path, arch):
            saved = size * matrix.weights - stored(matrix.outputs, matrix.inputs)
            total -= arch.num_hidden_layers * saved
    return total


def adapter_bytes(config: Config, arch: Architecture) -> int:
    """Bytes of the adapter's weights."""
    return 0 if trains_all(config) else of_trained(config) * adapter_parameters(config.lora, arch)


def trained_values(config: Config, arch: Architecture) -> int:
    """Parameters that train."""
    return parameters(arch).total if trains_all(config) else adapter_parameters(config.lora, arch)


def copies_bytes(config: Config, arch: Architecture) -> int:
    """Bytes of the 16-bit copies of float32 weights that autocast keeps while a batch goes forward."""
    if not trains_all(config) or of_model(config) == of_arithmetic(config):
        return 0
    return of_arithmetic(config) * arch.num_hidden_layers * sum(matrix.weights for matrix in matrices_of(arch))


def workspace_bytes(config: Config, arch: Architecture) -> int:
    """Bytes of one matrix that is made anew for each product: dequantised, or with DoRA put together and measured.

    PEFT 0.21 finds DoRA's norms by sending an identity matrix through the adapter, in the adapter's precision.
    """
    if trains_all(config):
        return 0
    size, linear = of_arithmetic(config), [m for m in matrices_of(arch) if _is_linear(m.path, arch)]
    times = {"4": 1, "8": 2}.get(config.quantization.bits, 0)
    needed = max((times * size * matrix.weights for matrix in linear), default=0)
    if config.lora.use_dora:
        wide = of_trained(config)
        identity = max((wide + size) * m.inputs**2 + size * m.weights for m in linear)
        norms = max((4 * wide + size) * m.weights for m in linear)
        needed = max(needed, identity, norms)
    return needed


def nf4_bytes(outputs: int, inputs: int) -> int:
    """Bytes of a matrix in NF4 with double quantisation: about 4.127 bits a weight."""
    blocks = ceil(outputs * inputs / BLOCK)
    return ceil(outputs * inputs / 2) + blocks + 4 * ceil(blocks / NESTED_BLOCK) + _TABLES


def int8_bytes(outputs: int, inputs: int) -> int:
    """Bytes of a matrix in LLM.int8, with a float32 scale for each row."""
    return outputs * inputs + 4 * outputs


def _is_linear(path: str, arch: Architecture) -> bool:
    """Whether it is a linear layer of its own: experts and routers of a mixture are plain parameters."""
    return not (arch.is_moe and path.startswith("mlp."))
