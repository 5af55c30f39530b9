"""Small models with random weights, adapters that really change them, and rows as `prepare` writes them."""

import importlib.util
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

SCRIPT = Path(__file__).parents[1] / "scripts/make_tiny_model.py"
SHAPE = {
    "vocab_size": 260,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,  # large enough that logits differ clearly from token to token
}


@cache
def tokenizer() -> PreTrainedTokenizerBase:
    """The byte-level tokenizer of the embedded model; an answer ends with `<|im_end|>`."""
    spec = importlib.util.spec_from_file_location("make_tiny_model", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_tokenizer()


def random_model(family: str = "llama", tied: bool = False, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config_class, model_class = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    }[family]
    end = tokenizer().eos_token_id
    return model_class(config_class(**SHAPE, tie_word_embeddings=tied, eos_token_id=end, pad_token_id=256)).eval()


def write_model(folder: Path, family: str = "llama", tied: bool = False, dtype: torch.dtype = torch.float32) -> Path:
    """A model's folder, with tokenizer and licence."""
    random_model(family, tied).to(dtype).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    (folder / "LICENSE").write_text("Free.\n")
    return folder


def write_adapter(train: Path, base: Path, size: float = 0.1, **settings: Any) -> Path:
    """The output of `train`: an adapter for `base` whose weights are random with deviation `size`."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    settings = {"target_modules": "all-linear", "lora_alpha": 8, "r": 4} | settings
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    for name, value in adapted.named_parameters():
        if "lora_B" in name or "lora_embedding_A" in name:  # the factors that PEFT starts at zero
            torch.nn.init.normal_(value.data, std=size)
        if "magnitude" in name and size:
            value.data *= 1 + 0.2 * torch.rand_like(value)
    adapted.save_pretrained(train / "adapter")
    return train


def make_rows(pairs: Sequence[tuple[str, str]]) -> Dataset:
    """Prepared rows of one question and one answer each."""
    made = []
    for line, (question, answer) in enumerate(pairs, 1):
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        prompt = tokenizer().apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
        trained = tokenizer().encode(answer + "<|im_end|>", add_special_tokens=False)
        newline = tokenizer().encode("\n", add_special_tokens=False)
        made.append(
            {
                "input_ids": [*prompt, *trained, *newline],
                "labels": [-100] * len(prompt) + trained + [-100],
                "messages": json.dumps(messages),
                "prompt_length": len(prompt),
                "source": f"rows.jsonl:{line}",
            }
        )
    return Dataset.from_list(made)


def write_prepared(folder: Path, held_out: int, train: int = 5) -> Path:
    """The output of `prepare`: rows of very different lengths."""
    for name, count in (("held_out", held_out), ("train", train)):
        rows = make_rows([("Say it " * (i % 5), "abc" * (i + 1)) for i in range(max(count, 1))])
        rows.select(range(count)).save_to_disk(folder / name)
    return folder


class Reports(list[dict[str, Any]]):
    """A report that remembers what it was told."""

    def __call__(self, **values: Any) -> None:
        self.append(values)
