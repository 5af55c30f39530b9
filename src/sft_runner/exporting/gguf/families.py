"""The families that become a GGUF file, and what llama.cpp must know of each; light, for planning reads it too.

llama.cpp computes each architecture in its own code, which holds some values fixed. A model that has others is
refused: the file would load, and answer worse.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sft_runner.errors import UserError


@dataclass(frozen=True)
class Family:
    """What becomes of one family's weights."""

    arch: str
    """llama.cpp's name."""
    interleaved: bool = False
    """Whether it turns neighbouring values of a head, where transformers turns the two halves: rows of Q and K move."""
    shifted_norms: bool = False
    """Whether transformers adds 1 to the norms' weights and llama.cpp does not."""
    act: str = "silu"
    """The activation that llama.cpp computes."""
    ropes: tuple[str, ...] = ("default",)
    """Kinds of position embeddings that it can be told."""


FAMILIES = {
    "llama": Family("llama", interleaved=True, ropes=("default", "linear", "llama3")),
    "mistral": Family("llama", interleaved=True, ropes=("default", "linear")),
    "qwen2": Family("qwen2", ropes=("default", "linear")),
    "qwen3": Family("qwen3", ropes=("default", "linear")),
    "gemma2": Family("gemma2", shifted_norms=True, act="gelu_pytorch_tanh"),
    "gemma3_text": Family("gemma3", shifted_norms=True, act="gelu_pytorch_tanh", ropes=("default", "linear")),
    "phi3": Family("phi3", ropes=("default", "longrope")),
}
"""`model_type` -> what becomes of it."""
REMEDY = (
    "take gguf out of export, and run llama.cpp's own convert_hf_to_gguf.py on the model that export=[safetensors] "
    "writes"
)
LOCAL_BASE = 10000.0
"""RoPE base of Gemma 3's sliding layers, which llama.cpp holds fixed."""
LARGE_LAYERS = {"gemma2": 46, "gemma3_text": 62}
"""Layers by which llama.cpp knows the 27 B models, whose attention it scales by another width."""


def family(model_type: str, tied: bool = True) -> Family:
    """What becomes of a family. Raises `UserError` for one that is not known.

    `tied`: whether its head shares the embedding's weights.
    """
    if model_type not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise UserError(f"export: gguf does not know models of the family '{model_type}', only {known}", REMEDY)
    if model_type == "gemma2" and not tied:
        raise refused("its head has weights of its own (tie_word_embeddings=false), llama.cpp takes the embedding's")
    return FAMILIES[model_type]


def check(config: Mapping[str, Any]) -> Family:
    """The family of a complete configuration. Raises `UserError` where llama.cpp computes something else."""
    found = family(str(config["model_type"]), bool(config.get("tie_word_embeddings", True)))
    for what in _unlike(config, found):
        raise refused(what)
    return found


def refused(why: str) -> UserError:
    """The error of a model that cannot become a GGUF file, for a reason that begins with `its` or `it`."""
    return UserError(f"export: gguf cannot hold this model: {why}", REMEDY)


def ropes(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Position embeddings by kind of layer; `full_attention` is there for every model."""
    rope: Mapping[str, Any] = config.get("rope_parameters") or {}
    if isinstance(rope.get("full_attention"), Mapping):
        return {name: values for name, values in rope.items() if isinstance(values, Mapping)}
    return {"full_attention": rope}


def head_dim(config: Mapping[str, Any]) -> int:
    """Width of a head."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _unlike(config: Mapping[str, Any], found: Family) -> Iterator[str]:
    """What llama.cpp would compute otherwise, a sentence each."""
    act = config.get("hidden_activation") or config.get("hidden_act") or found.act
    if act != found.act:
        yield f"its activation is {act}, llama.cpp computes {found.act}"
    rope = ropes(config)["full_attention"]
    kind = rope.get("rope_type", "default")
    if kind not in found.ropes:
        yield f"its position embeddings are of the kind {kind}, known are {', '.join(found.ropes)}"
    share = rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    if share != 1.0 and found.arch != "phi3":
        yield f"positions turn only {share:.0%} of each head"
    if config.get("use_sliding_window"):
        yield "it attends within a sliding window (use_sliding_window)"
    if found.arch == "qwen3" and config.get("attention_bias"):
        yield "its attention has biases"
    if found.arch.startswith("gemma"):
        yield from _unlike_gemma(config)


def _unlike_gemma(config: Mapping[str, Any]) -> Iterator[str]:
    model_type, layers = config["model_type"], int(config["num_hidden_layers"])
    large = layers == LARGE_LAYERS[model_type]
    width = config["hidden_size"] / config["num_attention_heads"] if large else head_dim(config)
    if config["query_pre_attn_scalar"] != width:
        yield f"its attention is scaled by query_pre_attn_scalar={config['query_pre_attn_scalar']}, not {width:g}"
    every = 2 if model_type == "gemma2" else 6
    usual = ["sliding_attention" if (i + 1) % every else "full_attention" for i in range(layers)]
    if (config.get("layer_types") or usual) != usual:
        yield f"not every {every}. layer, and no other, attends to all positions"
    local = ropes(config).get("sliding_attention", {})
    if model_type == "gemma3_text" and local.get("rope_theta", LOCAL_BASE) != LOCAL_BASE:
        yield f"its sliding layers turn with a base of {local['rope_theta']:g}, not {LOCAL_BASE:g}"
    if local.get("rope_type", "default") != "default":
        yield f"positions of its sliding layers are of the kind {local['rope_type']}"
    if model_type == "gemma3_text" and (config.get("attn_logit_softcapping") or config.get("final_logit_softcapping")):
        yield "its logits are capped"
    if config.get("use_bidirectional_attention"):
        yield "it attends to later positions"
