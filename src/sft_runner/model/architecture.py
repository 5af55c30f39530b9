"""The shape of a model, in the words of its config.json, known without loading or fetching anything.

It comes from the model's folder where that is on this machine, else from `model.architecture` in `conf/model`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """The numbers from which parameters, memory and arithmetic follow."""

    model_type: str
    """The family, such as `qwen2`."""
    vocab_size: int
    """Rows of the embedding."""
    hidden_size: int
    """Width of the residual stream."""
    intermediate_size: int
    """Width inside the feed-forward part."""
    num_hidden_layers: int
    """Layers."""
    num_attention_heads: int
    """Query heads."""
    num_key_value_heads: int
    """Key and value heads."""
    head_dim: int
    """Width of a head."""
    tie_word_embeddings: bool
    """Whether the output head shares the embedding's weights."""
    max_position_embeddings: int
    """Longest context in tokens."""
    num_experts: int = 0
    """Experts of a layer; 0 for a dense model."""
    num_experts_per_tok: int = 0
    """Experts that see a token."""
    moe_intermediate_size: int = 0
    """Width inside one expert."""
    num_parameters: int | None = None
    """All parameters, counted in the weights' files; None where they are not on this machine."""
