"""What the forward pass keeps for the backward pass, in bytes for each token.

Korthikanti et al. 2022 (arXiv:2205.05198, section 4.1) count what autograd keeps of each operation of a layer; this is
the same count for the layers that transformers builds today: RMSNorm in float32, gated feed-forward, grouped queries,
attention by a kernel that keeps no scores (`sdpa`, flash), adapters beside frozen weights, autocast. A frozen weight
keeps nothing of its input. The tests compare it with what autograd really keeps.
"""

from dataclasses import dataclass

from sft_runner.config.schema import Config
from sft_runner.cost.parameters import (
    FUSED,
    Matrix,
    adapted,
    has_query_norm,
    key_width,
    matrices_of,
    norms_of,
    query_width,
)
from sft_runner.cost.precision import of_arithmetic, of_model, of_trained, trains_all
from sft_runner.model.architecture import Architecture

_FLOAT = 4
_EAGER = ("gemma2",)
"""Families whose scores are capped, which no fused kernel of torch does."""
_WINDOWED = ("gemma3", "gemma3_text")
"""Families with layers whose window is shorter than rows are: `sdpa` is given a mask for them."""
_SCORE_PASSING = 5.5
"""Bytes for each score that come and go where attention is `eager`: mostly its gradient in float32."""


@dataclass(frozen=True)
class Layer:
    """Bytes that one layer keeps for one token."""

    residual: int
    """What goes into the layer: all that full checkpointing keeps."""
    attention: int
    """What the attention kernel made: selective checkpointing keeps it too."""
    inside: int
    """Everything else."""

    @property
    def total(self) -> int:
        return self.attention + self.inside


def is_eager(config: Config, arch: Architecture) -> bool:
    """Whether attention keeps its scores."""
    kernel = config.hardware.attn_implementation
    return kernel == "eager" or kernel is None and arch.model_type in _EAGER


def is_masked(arch: Architecture) -> bool:
    """Whether layers are given a mask. Training gives none, for padding stands behind the tokens of a row; models with
    windows make one."""
    return arch.model_type in _WINDOWED


def of_layer(config: Config, arch: Architecture, context: int, masked: bool) -> Layer:
    """Bytes for each token of rows with `context` tokens; `masked` where attention is given a mask.

    With a mask, sdpa repeats keys and values for every query head and keeps the mask as numbers, in every layer.
    """
    size, stream = of_arithmetic(config), of_model(config)
    queries, keys = query_width(arch), key_width(arch)
    eager = is_eager(config, arch)
    repeated = eager or masked and "flash" not in (config.hardware.attn_implementation or "")
    attention = size * queries + _FLOAT * arch.num_attention_heads
    inside = _norms(config, arch, stream) + _inputs(config, arch, size, stream)
    inside += size * (queries + 2 * (queries if repeated else keys))
    if arch.model_type in FUSED and not repeated:
        inside += size * (queries + keys)  # values are a view of all three
    if eager:  # probabilities in float32 and in 16 bits, and with a soft cap its tangent
        caps = size if arch.model_type in _EAGER else 0
        inside += arch.num_attention_heads * context * (_FLOAT + (size if size < _FLOAT else 0) + caps)
    elif repeated:
        inside += size * context
    inside += _feed_forward(arch, size)
    return Layer(stream * arch.hidden_size, attention, inside)


def kept(config: Config, arch: Architecture, micro_batch: int, length: int, checkpointing: str, masked: bool) -> int:
    """Bytes that all layers keep for a micro-batch. With checkpointing one layer at a time is computed again."""
    layer, tokens = of_layer(config, arch, length, masked), micro_batch * length
    last = (_FLOAT + of_model(config)) * arch.hidden_size  # the last norm and what goes into the head
    by_layer = {
        "none": layer.total,
        "selective": layer.residual + layer.attention,
        "full": layer.residual,
    }[checkpointing]
    again = 0 if checkpointing == "none" else layer.total
    return tokens * (arch.num_hidden_layers * by_layer + again + last)


def _norms(config: Config, arch: Architecture, stream: int) -> int:
    """Each norm keeps its input in float32; one that trains keeps the normalised values too."""
    widths = [width for width in norms_of(arch) if width == arch.hidden_size]
    normalised = 0 if not trains_all(config) else _FLOAT if arch.model_type.startswith("gemma") else stream
    if has_query_norm(arch):
        widths.append(query_width(arch) + key_width(arch))
    return sum(widths) * (_FLOAT + normalised)


def _inputs(config: Config, arch: Architecture, size: int, stream: int) -> int:
    """The inputs of the matrix products whose weights train.

    Products that read the same values keep them once, unless each makes a copy: autocast does where the values are
    float32 and it computes in 16 bits, and PEFT casts to the adapter's float32 first.
    """
    copies = size < _FLOAT and (stream == _FLOAT if trains_all(config) else of_trained(config) == _FLOAT)
    kept_sources: dict[str, int] = {}
    total = 0
    for matrix, rank in _trained(config, arch):
        source = _source(matrix)
        width = matrix.inputs * (arch.num_experts_per_tok if matrix.experts else 1)
        own = (copies or config.lora.lora_dropout > 0) and not (
            trains_all(config) and source in ("attention", "product")
        )
        if source == "attention" and not own:
            width = 0  # the kernel keeps its output anyway
        if own:
            total += (size if copies else of_trained(config)) * width
        else:
            kept_sources[source] = size * width
        if not trains_all(config):
            total += size * rank
            # each value that was dropped or not: a byte on a card, on the CPU a factor
            factor = 1 if config.hardware.memory_gb > 0 else of_trained(config)
            total += factor * width if config.lora.lora_dropout else 0
            total += 2 * size * matrix.outputs if config.lora.use_dora else 0
    if config.quantization.bits == "8" and config.hardware.memory_gb > 0:  # LLM.int8 on a card keeps what goes in
        for matrix in matrices_of(arch):
            if not matrix.experts and _source(matrix) != "attention":
                kept_sources[_source(matrix)] = size * matrix.inputs
    return total + sum(kept_sources.values())


def _feed_forward(arch: Architecture, size: int) -> int:
    """Gate, its activation and up, which are multiplied; of a mixture those of the experts that see the token."""
    if not arch.is_moe:
        return 3 * size * arch.intermediate_size
    width = arch.moe_intermediate_size or arch.intermediate_size
    return arch.num_experts_per_tok * size * (3 * width + 2 * arch.hidden_size) + 2 * _FLOAT * arch.num_experts


def _trained(config: Config, arch: Architecture) -> list[tuple[Matrix, int]]:
    """The weights of one layer whose products keep their input, with the adapter's rank."""
    if trains_all(config):
        return [(matrix, 0) for matrix in matrices_of(arch)]
    return list(adapted(config.lora, arch))


def _source(matrix: Matrix) -> str:
    """Where a product's input comes from."""
    name = matrix.path.rpartition(".")[2]
    if name == "o_proj":
        return "attention"
    if name == "down_proj":
        return "product"
    return "first norm" if matrix.path.startswith("self_attn") else "second norm"


def passing(config: Config, arch: Architecture, context: int) -> int:
    """Bytes for each token that come and go inside a layer, at most: in its feed-forward part, or where attention makes
    scores of `context` tokens there.

    Three of its values in 16 bits, two in float32, and one more in both where PEFT casts what goes into an adapter.
    """
    width = arch.intermediate_size
    if arch.is_moe:
        width = arch.num_experts_per_tok * (arch.moe_intermediate_size or width)
    casts = not trains_all(config) and of_trained(config) > of_arithmetic(config)
    feed_forward = width * (8 if casts or of_arithmetic(config) == _FLOAT else 6)
    scores = int(_SCORE_PASSING * arch.num_attention_heads * context) if is_eager(config, arch) else 0
    return max(feed_forward, scores)
