"""Bytes that scoring a model takes: `baseline`, `evaluate`, and looks at held-out rows while it trains."""

from collections.abc import Iterator

from sft_runner.config.schema import Config
from sft_runner.cost.activations import is_eager, passing
from sft_runner.cost.memory import CONTEXT, FRAGMENTED, PROCESS
from sft_runner.cost.parameters import key_width, parameters, query_width
from sft_runner.cost.precision import of_arithmetic, trains_all
from sft_runner.cost.weights import adapter_bytes, base_bytes, workspace_bytes
from sft_runner.model.architecture import Architecture

LOGITS = 2**28
"""Most logits in a batch of several rows (`evaluation/losses.py`)."""
POSITIONS = 256
"""Positions whose logits are turned into float32 at once, there."""
_FLOAT = 4


def scoring_memory(config: Config, arch: Architecture, rows: int) -> int:
    """Bytes to score `rows` rows of `data.max_length` tokens at once, each with an answer of
    `evaluate.max_new_tokens`: the weights, and what is the larger of a forward pass for the loss and of a generation.
    """
    size, length = of_arithmetic(config), config.data.max_length
    written = config.evaluate.max_new_tokens if config.evaluate.metrics else 0
    weights = size * parameters(arch).total if trains_all(config) else base_bytes(config, arch)
    weights += adapter_bytes(config, arch) + workspace_bytes(config, arch)
    stream = arch.hidden_size * (2 * size + _FLOAT) + size * 2 * (query_width(arch) + key_width(arch))
    one_layer = rows * length * (stream + passing(config, arch, length))
    logits = size * max(min(rows * length * arch.vocab_size, LOGITS), length * arch.vocab_size)
    logits += 2 * _FLOAT * min(POSITIONS, length) * arch.vocab_size
    cache = 2 * size * key_width(arch) * (arch.num_hidden_layers + 1) * rows * (length + written)
    if is_eager(config, arch):
        one_layer += size * arch.num_attention_heads * rows * length**2
    moving = one_layer + max(logits, cache + _FLOAT * rows * arch.vocab_size if written else 0)
    fixed = CONTEXT if config.hardware.memory_gb > 0 else PROCESS
    return fixed + weights + moving + int(FRAGMENTED * moving)


def sizes(most: int) -> Iterator[int]:
    """Batches to try: `most`, then always half of it."""
    while most >= 1:
        yield most
        most //= 2
