"""Small models of every family that is counted exactly, and the runs that the counts are for."""

from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig

from sft_runner.config.schema import Config, Hardware, Lora, Quantization
from sft_runner.model.architecture import Architecture

SHAPE = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OWN: dict[str, dict[str, int]] = {
    "qwen3": {"head_dim": 24},
    "gemma": {"head_dim": 24},
    "gemma2": {"head_dim": 24},
    "gemma3_text": {"head_dim": 24},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "head_dim": 24},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
}


def family_config(family: str, tied: bool = False, **shape: int) -> PretrainedConfig:
    """The configuration of a small model."""
    return CONFIG_MAPPING[family](**{**SHAPE, **OWN.get(family, {}), **shape}, tie_word_embeddings=tied)


def shape_of(config: PretrainedConfig) -> Architecture:
    """Its numbers."""
    values: Any = config
    return Architecture(
        model_type=values.model_type,
        vocab_size=values.vocab_size,
        hidden_size=values.hidden_size,
        intermediate_size=values.intermediate_size,
        num_hidden_layers=values.num_hidden_layers,
        num_attention_heads=values.num_attention_heads,
        num_key_value_heads=values.num_key_value_heads,
        head_dim=getattr(values, "head_dim", None) or values.hidden_size // values.num_attention_heads,
        tie_word_embeddings=values.tie_word_embeddings,
        max_position_embeddings=values.max_position_embeddings,
        num_experts=getattr(values, "num_local_experts", 0) or getattr(values, "num_experts", 0) or 0,
        num_experts_per_tok=getattr(values, "num_experts_per_tok", 0) or 0,
        moe_intermediate_size=getattr(values, "moe_intermediate_size", 0) or 0,
    )


LLAMA_32_3B = Architecture("llama", 128256, 3072, 8192, 28, 24, 8, 128, True, 131072)
LLAMA_31_8B = Architecture("llama", 128256, 4096, 14336, 32, 32, 8, 128, False, 131072)
LLAMA_2_7B = Architecture("llama", 32000, 4096, 11008, 32, 32, 32, 128, False, 4096)
QWEN_25_7B = Architecture("qwen2", 152064, 3584, 18944, 28, 28, 4, 128, False, 32768)


def settings(method: str = "lora", bits: str = "none", rows: int = 16, length: int = 2048, **hardware: Any) -> Config:
    """A settled run on a card of 80 GB in bfloat16, unless `hardware` says otherwise."""
    known = {"name": "some", "memory_gb": 80.0, "dtype": "bfloat16", "optim": "adamw_torch_fused", **hardware}
    config = Config(hardware=Hardware(**known), lora=Lora(r=8, lora_alpha=16), quantization=Quantization(bits=bits))
    config.adapter = "none" if method == "full" else "lora"
    config.lora.use_dora = method == "dora"
    config.train.batch_size, config.data.max_length = rows, length
    config.name, config.model.name, config.data.path = "some", "some/model", "embedded:dates"
    return config
