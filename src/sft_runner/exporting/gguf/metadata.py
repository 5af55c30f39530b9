"""What a GGUF file says of a model besides its weights, in llama.cpp's words."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sft_runner.exporting.gguf.families import Family, head_dim, ropes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

QUANTISATION = 2
"""Version of ggml's quantised blocks."""


def describe(writer: Any, config: Mapping[str, Any], family: Family, name: str, vocabulary_size: int) -> None:
    """Tell a `gguf.GGUFWriter` the model's shape. `config` is complete: no value is left to a default."""
    rope = ropes(config)["full_attention"]
    window = config.get("sliding_window")
    writer.add_type("model")
    writer.add_name(name)
    writer.add_quantization_version(QUANTISATION)
    writer.add_context_length(context_of(config, family))
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config.get("num_key_value_heads") or config["num_attention_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_key_length(head_dim(config))
    writer.add_value_length(head_dim(config))
    writer.add_vocab_size(vocabulary_size)
    if family.arch in ("llama", "phi3"):
        share = rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
        writer.add_rope_dimension_count(int(head_dim(config) * share))
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    if family.arch in ("gemma2", "gemma3"):
        writer.add_sliding_window(int(config["sliding_window"]))
    if family.arch == "gemma2":
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if family.arch == "phi3":
        writer.add_sliding_window(int(window or 0))
    _scaling(writer, config, rope)


def context_of(config: Mapping[str, Any], family: Family) -> int:
    """The longest context in which llama.cpp computes what transformers does."""
    rope, context = ropes(config)["full_attention"], int(config["max_position_embeddings"])
    if family.arch == "llama" and config.get("sliding_window"):
        return min(context, int(config["sliding_window"]))  # llama.cpp attends to all positions there
    if rope.get("rope_type") == "longrope":
        # transformers takes the short factors for texts up to here, llama.cpp by the context that it was started with
        return min(context, _original(config, rope))
    return context


def limits(config: Mapping[str, Any], family: Family) -> Iterator[str]:
    """What the file leaves out of what the model can, a sentence each."""
    if (context := context_of(config, family)) < int(config["max_position_embeddings"]):
        yield f"gguf: the file is for contexts of up to {context:,} tokens, in longer ones llama.cpp computes otherwise"


def extra_tensors(config: Mapping[str, Any]) -> "dict[str, NDArray[np.float32]]":
    """Factors that llama.cpp divides the positions' frequencies by; they are in no file of the model."""
    import numpy as np

    rope = ropes(config)["full_attention"]
    kind = rope.get("rope_type")
    if kind == "llama3":
        return {"rope_freqs.weight": np.array(_llama3(rope, head_dim(config)), dtype=np.float32)}
    if kind == "longrope":
        short = np.array(rope["short_factor"], dtype=np.float32)
        return {f"rope_factors_{length}.weight": short for length in ("long", "short")}
    return {}


def _scaling(writer: Any, config: Mapping[str, Any], rope: Mapping[str, Any]) -> None:
    """How positions are stretched beyond the context of pre-training."""
    import gguf

    kind = rope.get("rope_type", "default")
    original = _original(config, rope)
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))
    elif kind == "longrope":
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(_longrope_attention(rope, config, original))


def _original(config: Mapping[str, Any], rope: Mapping[str, Any]) -> int:
    """The context of pre-training."""
    name = "original_max_position_embeddings"
    return int(rope.get(name) or config.get(name) or config["max_position_embeddings"])


def _longrope_attention(rope: Mapping[str, Any], config: Mapping[str, Any], original: int) -> float:
    """The scale of cosines and sines (LongRoPE, Ding et al. 2024), as transformers computes it."""
    if rope.get("attention_factor"):
        return float(rope["attention_factor"])
    factor = rope.get("factor") or config["max_position_embeddings"] / original
    return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))


def _llama3(rope: Mapping[str, Any], width: int) -> list[float]:
    """Llama 3.1's factor for each frequency: none for short waves, all of it for long ones, a ramp between them."""
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    original, found = rope["original_max_position_embeddings"], []
    for place in range(0, width, 2):
        wave = 2 * math.pi * rope["rope_theta"] ** (place / width)
        if wave < original / high:
            found.append(1.0)
        elif wave > original / low:
            found.append(float(factor))
        else:
            smooth = (original / wave - low) / (high - low)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return found
