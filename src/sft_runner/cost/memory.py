"""Bytes that training takes on one accelerator, by part, at its peak: the end of a forward pass."""

from dataclasses import dataclass, fields

from sft_runner.config.schema import Config
from sft_runner.cost import activations, optimizer, weights
from sft_runner.cost.parameters import adapter_shapes, model_shapes
from sft_runner.cost.precision import of_arithmetic, of_model, of_trained, trains_all
from sft_runner.model.architecture import Architecture

CONTEXT = 600_000_000
"""Bytes that CUDA, its kernels and its libraries take before the first tensor: 0.4 to 0.7 GB, by card and driver."""
PROCESS = 1_000_000_000
"""Bytes that Python and the libraries take on a machine without an accelerator."""
FRAGMENTED = 0.05
"""Share of what comes and goes that torch's allocator cannot give out again."""
TILE_TOKENS, TILE_WIDTH = 4096, 32768
"""Logits that TRL 1.16's fused head holds at once (`trl/kernels/chunked_logprob.py`)."""
PLAIN_LOGITS = 2**28
"""Logits that the plain loss on the CPU holds at most (`training/trainer.py`)."""
_FLOAT = 4


@dataclass(frozen=True)
class Memory:
    """Bytes of one accelerator while training."""

    weights: int
    """The model, the adapter, and 16-bit copies of what trains in float32."""
    gradients: int
    """Of what trains; where a step is one batch, only what they take beyond the activations that make room for them."""
    optimizer: int
    """States of the optimizer."""
    activations: int
    """What the forward pass keeps for the backward pass, and what one layer needs on the way."""
    logits: int
    """The output head and the loss."""
    overhead: int
    """CUDA itself, matrices made anew for each product, and memory lost between tensors."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(int(getattr(self, item.name)) for item in fields(self))


def training_memory(config: Config, arch: Architecture, micro_batch: int, checkpointing: str, length: int) -> Memory:
    """Bytes for `micro_batch` rows of `length` tokens, with `none`, `selective` or `full` checkpointing.

    All tokens are taken to carry loss.
    """
    tokens, masked = micro_batch * length, activations.is_masked(arch)
    passing = tokens * activations.passing(config, arch, length)
    one_layer = tokens * activations.of_layer(config, arch, length, masked).total + passing
    kept = activations.kept(config, arch, micro_batch, length, checkpointing, masked) + passing
    logits = _head(config, arch, tokens)
    values, trained = weights.trained_values(config, arch), of_trained(config)
    shapes = model_shapes(arch) if trains_all(config) else adapter_shapes(config.lora, arch)
    gradients, copies = values * trained, weights.copies_bytes(config, arch)
    if micro_batch >= config.train.batch_size and (micro_batch == 1 or not config.train.packing):
        # the step is one pass, and none stand there before its backward half makes them
        gradients = min(gradients, max(0, gradients + one_layer - kept - logits - copies))
    step = max(0, optimizer.workspace_bytes(config.hardware.optim, values, trained) - kept - logits)
    fixed = CONTEXT if config.hardware.memory_gb > 0 else PROCESS
    return Memory(
        weights=weights.base_bytes(config, arch) + weights.adapter_bytes(config, arch) + copies,
        gradients=gradients,
        optimizer=optimizer.state_bytes(config.hardware.optim, shapes, trained),
        activations=kept,
        logits=logits,
        overhead=fixed + weights.workspace_bytes(config, arch) + step + int(FRAGMENTED * (kept + logits)),
    )


def _head(config: Config, arch: Architecture, tokens: int) -> int:
    """Bytes of head and loss. On a card TRL's head makes logits in tiles, so that they never stand there as a whole.

    On the CPU the plain loss takes only the tokens with loss, up to `PLAIN_LOGITS`; how many these are is not known
    here, so it may be either of the two ways.
    """
    size, hidden, vocabulary = of_arithmetic(config), arch.hidden_size, arch.vocab_size
    trained_head = _FLOAT * vocabulary * hidden if trains_all(config) else 0
    width = min(vocabulary, TILE_WIDTH)
    tile = min(tokens, TILE_TOKENS) * width * size
    cast = width * hidden * size if of_model(config) != size else 0
    by_token = size * hidden + _FLOAT * hidden + 7 * _FLOAT  # states, their gradients in float32, statistics
    tiled = tile + cast + tokens * by_token
    plain = min(tokens * vocabulary, PLAIN_LOGITS) * (size + 2 * _FLOAT) if config.hardware.memory_gb <= 0 else 0
    return max(plain, tiled) + trained_head
