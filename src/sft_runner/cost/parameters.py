"""The parameters of a model and of its adapter, counted from the architecture's numbers.

The families in the tables below are counted exactly, as transformers 5 builds them; any other is taken for a Llama, and
what the weights' files hold beyond that is `other`.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cache
from math import prod

from sft_runner.config.schema import ALL_LINEAR, Lora
from sft_runner.model.architecture import Architecture

_SPLIT_EXPERTS = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}
_SPLIT_MIXTRAL = {"gate_up_proj": ("w1", "w3"), "down_proj": ("w2",)}
"""The names that experts had as layers of their own; PEFT takes them for the parameters that hold them all now."""
_QUERY_BIAS = ("qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl")
_QUERY_NORM = ("qwen3", "qwen3_moe", "gemma3", "gemma3_text")
_FOUR_NORMS = ("gemma2", "gemma3", "gemma3_text")
FUSED = ("phi3",)
EXACT = (
    *("llama", "mistral", "mixtral", "granite", "smollm3", "phi3"),
    *("qwen2", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text"),
)
"""Families whose formula is compared with transformers' own models in the tests."""


@dataclass(frozen=True)
class Matrix:
    """A weight of a layer that a LoRA adapter can stand beside."""

    path: str
    """Its module below the layer, or for `experts` the parameter, such as `self_attn.q_proj`."""
    inputs: int
    """Columns: width of what goes in."""
    outputs: int
    """Rows: width of what comes out."""
    bias: bool = False
    """Whether it adds a vector of `outputs`."""
    experts: int = 0
    """Matrices in one parameter of shape (experts, outputs, inputs); 0 for a linear layer of its own."""

    @property
    def weights(self) -> int:
        """Weights without the bias."""
        return max(self.experts, 1) * self.inputs * self.outputs

    @property
    def size(self) -> int:
        """All parameters."""
        return self.weights + (self.outputs if self.bias else 0)


@dataclass(frozen=True)
class Parameters:
    """The parameters of a model by part, all layers together."""

    embedding: int
    attention: int
    feed_forward: int
    experts: int
    """Experts and their routers; 0 for a dense model."""
    norms: int
    head: int
    """0 where it shares the embedding's weights."""
    other: int
    """What the weights' files hold beyond the formula, such as a picture encoder; 0 for the families in `EXACT`."""

    @property
    def total(self) -> int:
        return sum(vars(self).values())


@cache
def parameters(arch: Architecture) -> Parameters:
    """Parameters by part; the total is that of the weights' files where those are known."""
    layers, matrices = arch.num_hidden_layers, matrices_of(arch)
    sizes = {part: layers * sum(m.size for m in matrices if m.path.startswith(part)) for part in ("self_attn", "mlp")}
    embedding = arch.vocab_size * arch.hidden_size
    found = Parameters(
        embedding=embedding,
        attention=sizes["self_attn"],
        feed_forward=0 if arch.is_moe else sizes["mlp"],
        experts=sizes["mlp"] if arch.is_moe else 0,
        norms=sum(norms_of(arch)) * layers + arch.hidden_size,
        head=0 if arch.tie_word_embeddings else embedding,
        other=0,
    )
    counted = arch.num_parameters or found.total
    return Parameters(**{**vars(found), "other": counted - found.total})


def active(arch: Architecture) -> int:
    """Parameters in matrix products for one token: all but the embedding's table, norms and idle experts."""
    found = parameters(arch)
    experts = found.experts * arch.num_experts_per_tok // arch.num_experts if arch.is_moe else 0
    return found.attention + found.feed_forward + experts + arch.vocab_size * arch.hidden_size


@cache
def matrices_of(arch: Architecture) -> tuple[Matrix, ...]:
    """The weights of one layer that an adapter can stand beside, with the names that transformers gives them."""
    hidden, width = arch.hidden_size, arch.intermediate_size
    queries, keys = query_width(arch), key_width(arch)
    bias = arch.model_type in _QUERY_BIAS
    if arch.model_type in FUSED:
        attention = [Matrix("self_attn.qkv_proj", hidden, queries + 2 * keys)]
    else:
        widths = {"q_proj": queries, "k_proj": keys, "v_proj": keys}
        attention = [Matrix(f"self_attn.{name}", hidden, out, bias) for name, out in widths.items()]
    attention.append(Matrix("self_attn.o_proj", queries, hidden))
    if arch.is_moe:
        width = arch.moe_intermediate_size or width
        feed_forward = [
            Matrix("mlp.gate", hidden, arch.num_experts),
            Matrix("mlp.experts.gate_up_proj", hidden, 2 * width, experts=arch.num_experts),
            Matrix("mlp.experts.down_proj", width, hidden, experts=arch.num_experts),
        ]
    elif arch.model_type in FUSED:
        feed_forward = [Matrix("mlp.gate_up_proj", hidden, 2 * width), Matrix("mlp.down_proj", width, hidden)]
    else:
        feed_forward = [Matrix(f"mlp.{name}", hidden, width) for name in ("gate_proj", "up_proj")]
        feed_forward.append(Matrix("mlp.down_proj", width, hidden))
    return (*attention, *feed_forward)


def norms_of(arch: Architecture) -> list[int]:
    """Widths of the norms of one layer."""
    norms = [arch.hidden_size] * (4 if arch.model_type in _FOUR_NORMS else 2)
    return norms + ([arch.head_dim, arch.head_dim] if has_query_norm(arch) else [])


def has_query_norm(arch: Architecture) -> bool:
    """Whether queries and keys are normalised."""
    return arch.model_type in _QUERY_NORM


def query_width(arch: Architecture) -> int:
    """Width of all queries of a token."""
    return arch.num_attention_heads * arch.head_dim


def key_width(arch: Architecture) -> int:
    """Width of all keys of a token, and of all values."""
    return arch.num_key_value_heads * arch.head_dim


def adapted(lora: Lora, arch: Architecture) -> Counter[tuple[Matrix, int]]:
    """The weights that get an adapter, with its rank for one matrix, and in how many layers.

    PEFT matches a name with the whole path of a module or with its end after a dot.
    """
    return _adapted(lora.r or 1, tuple(lora.target_modules), tuple(lora.target_parameters), arch)


def adapter_shapes(lora: Lora, arch: Architecture) -> Counter[tuple[int, ...]]:
    """The shapes of the adapter's tensors and how many of each: A (rank, inputs), B (outputs, rank), and with DoRA a
    magnitude (outputs,).

    An adapter on experts has its rank for each of them (PEFT's `ParamWrapper`), one on the embedding takes its rows.
    """
    found: Counter[tuple[int, ...]] = Counter()
    sides = [(max(m.experts, 1) * rank, m.inputs, m.outputs, count) for (m, rank), count in adapted(lora, arch).items()]
    if any(name.rpartition(".")[2] == "embed_tokens" for name in lora.target_modules):
        sides.append((lora.r or 1, arch.vocab_size, arch.hidden_size, 1))
    for width, inputs, outputs, count in sides:
        found += Counter({(width, inputs): count}) + Counter({(outputs, width): count})
        found += Counter({(outputs,): count if lora.use_dora else 0})
    return found


def model_shapes(arch: Architecture) -> Counter[tuple[int, ...]]:
    """The shapes of the model's own tensors and how many of each."""
    found: Counter[tuple[int, ...]] = Counter()
    found[arch.vocab_size, arch.hidden_size] += 1 if arch.tie_word_embeddings else 2
    for matrix in matrices_of(arch):
        shape = (matrix.outputs, matrix.inputs)
        found[(matrix.experts, *shape) if matrix.experts else shape] += arch.num_hidden_layers
        if matrix.bias:
            found[matrix.outputs,] += arch.num_hidden_layers
    for width in norms_of(arch):
        found[width,] += arch.num_hidden_layers
    found[arch.hidden_size,] += 1
    if (other := parameters(arch).other) > 0:
        found[other,] += 1
    return found


def adapter_parameters(lora: Lora, arch: Architecture) -> int:
    """Parameters of the adapter, as PEFT's `get_nb_trainable_parameters` counts them."""
    return sum(prod(shape) * count for shape, count in adapter_shapes(lora, arch).items())


@cache
def _adapted(
    rank: int, modules: tuple[str, ...], named: tuple[str, ...], arch: Architecture
) -> Counter[tuple[Matrix, int]]:
    found: Counter[tuple[Matrix, int]] = Counter()
    for matrix in matrices_of(arch):
        names = _present(modules, arch, matrix)
        both = 2 if matrix.experts and "gate_up" in matrix.path else 1  # PEFT keeps a rank for gate and one for up
        for layer in range(arch.num_hidden_layers):
            path = f".model.layers.{layer}.{matrix.path}"
            parameter = path if matrix.experts else f"{path}.weight"
            if any(parameter.endswith(f".{name}") for name in named):
                found[matrix, rank] += 1
            elif ALL_LINEAR in modules or any(path.endswith(f".{name}") for name in names):
                found[matrix, both * rank] += 1
    return found


def _present(names: tuple[str, ...], arch: Architecture, matrix: Matrix) -> tuple[str, ...]:
    """Targets by name, with the present names of experts for their former ones."""
    if not matrix.experts:
        return names
    new, split = matrix.path.rpartition(".")[2], _SPLIT_MIXTRAL if arch.model_type == "mixtral" else _SPLIT_EXPERTS
    return tuple(new for name in names if name.rpartition(".")[2] in split[new])
