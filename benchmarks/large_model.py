"""A model of a real size with random weights, written shard by shard so that it is never in memory, and an adapter."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sft_runner.model.files import EMBEDDED

SHAPES: Mapping[str, Mapping[str, Any]] = {
    "1.5b": {
        "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
        "num_key_value_heads": 2, "vocab_size": 151_936, "tie_word_embeddings": True,
    },
    "7b": {
        "hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152_064, "tie_word_embeddings": False,
    },
    "tiny": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 512, "tie_word_embeddings": True,
    },
}  # fmt: skip
"""Those of Qwen2.5, and a small one to try it."""
RANK = 16
"""Of the adapter, which is on all linear layers."""


def make_model(shape: str, folder: Path, shard: int) -> Path:
    """A bfloat16 model in files of at most `shard` bytes; 0.02 is the deviation that such weights begin with."""
    import torch
    from safetensors.torch import save_file
    from transformers import Qwen2Config

    folder.mkdir(parents=True)
    config = Qwen2Config(**SHAPES[shape], max_position_embeddings=32_768, dtype="bfloat16")
    config.architectures = ["Qwen2ForCausalLM"]
    config.save_pretrained(folder)
    for file in (EMBEDDED / "tiny").iterdir():
        if file.suffix != ".safetensors" and file.name not in ("config.json", "generation_config.json"):
            shutil.copyfile(file, folder / file.name)
    files: list[dict[str, tuple[int, ...]]] = [{}]
    room = shard
    for name, value in _skeleton(config).state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        size = 2 * value.numel()
        if files[-1] and size > room:
            files.append({})
            room = shard
        files[-1][name] = tuple(value.shape)
        room -= size
    generator = torch.Generator().manual_seed(0)
    placed: dict[str, str] = {}
    for number, names in enumerate(files, 1):
        path = folder / f"model-{number:05}-of-{len(files):05}.safetensors"
        tensors = {name: _random(size, generator) for name, size in names.items()}
        save_file(tensors, path, metadata={"format": "pt"})
        placed |= dict.fromkeys(names, path.name)
    total = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    index = {"metadata": {"total_size": total}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    return folder


def make_adapter(base: Path, folder: Path, **settings: Any) -> Path:
    """An adapter of rank 16 on all linear layers, both factors random; `settings` are PEFT's."""
    import torch
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
    from safetensors.torch import save_file
    from transformers import AutoConfig

    config: Any = LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=RANK, target_modules="all-linear", **settings)
    with torch.device("meta"):
        model = get_peft_model(_skeleton(AutoConfig.from_pretrained(base)), config, low_cpu_mem_usage=True)
    folder.mkdir(parents=True)
    model.peft_config["default"].save_pretrained(folder)
    generator = torch.Generator().manual_seed(1)
    shapes = get_peft_model_state_dict(model, save_embedding_layers=False)
    tensors = {name: _random(value.shape, generator).float().abs() for name, value in shapes.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def _skeleton(config: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def _random(shape: Any, generator: Any) -> Any:
    """Normal values of deviation 0.02, drawn once for 64 MB and repeated, for drawing takes longest."""
    import math

    import torch

    count = math.prod(shape)
    drawn = (0.02 * torch.randn(min(count, 1 << 25), generator=generator)).bfloat16()
    return drawn.repeat(-(-count // len(drawn)))[:count].reshape(tuple(shape)).clone()
