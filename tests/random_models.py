"""Small models with random weights, adapters that really change them, and rows as `prepare` writes them."""

import importlib.util
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from datasets import Dataset
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForCausalLM,
)

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
        "gemma2": (Gemma2Config, Gemma2ForCausalLM),
        "gemma3": (Gemma3TextConfig, Gemma3ForCausalLM),
    }[family]
    end = tokenizer().eos_token_id
    layers = ["sliding_attention", "full_attention"]
    own = {"head_dim": 8, "sliding_window": 8, "layer_types": layers} if family in ("gemma2", "gemma3") else {}
    config = config_class(**SHAPE, **own, tie_word_embeddings=tied, eos_token_id=end, pad_token_id=256)
    return model_class(config).eval()


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


Turn = tuple[str, str]
"""A question and its answer."""


def chat_row(question: str, answer: str, place: int = 1, **columns: Any) -> dict[str, Any]:
    """A prepared row of one question and one answer; `columns` are values of its own, such as `tools` as a list."""
    tools = columns.pop("tools", [])
    prompt = [{"role": "user", "content": question}]
    ids = tokenizer().apply_chat_template(prompt, tools=tools or None, add_generation_prompt=True, return_dict=False)
    trained = tokenizer().encode(answer + "<|im_end|>", add_special_tokens=False)
    newline = tokenizer().encode("\n", add_special_tokens=False)
    return {
        "input_ids": [*ids, *trained, *newline],
        "labels": [-100] * len(ids) + trained + [-100],
        "messages": json.dumps([*prompt, {"role": "assistant", "content": answer}]),
        "tools": json.dumps(tools) if tools else "",
        "prompt_length": len(ids),
        **_place(place),
        **columns,
    }


def text_row(text: str, place: int = 1, prompt: str = "", **columns: Any) -> dict[str, Any]:
    """A prepared row that is no conversation: a plain text, or code to fill in behind `prompt`."""
    before = tokenizer().encode(prompt, add_special_tokens=False)
    learned = tokenizer().encode(text + "<|im_end|>", add_special_tokens=False)
    return {
        "input_ids": before + learned,
        "labels": [-100] * len(before) + learned,
        "messages": "[]",
        "tools": "",
        "prompt_length": len(before),
        **_place(place),
        **columns,
    }


def make_rows(pairs: Sequence[Turn]) -> Dataset:
    """Prepared rows of one question and one answer each."""
    return rows_of([chat_row(question, answer, line) for line, (question, answer) in enumerate(pairs, 1)])


def rows_of(rows: Sequence[dict[str, Any]]) -> Dataset:
    """Prepared rows with the types of their columns."""
    return Dataset(_table(rows))


def write_rows(folder: Path, train: Sequence[dict[str, Any]], held_out: Sequence[dict[str, Any]] = ()) -> Path:
    """The output of `prepare` for these rows."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "train.arrow", _table(train))
    _write(folder / "held_out.arrow", _table(held_out))
    return folder


def write_prepared(folder: Path, held_out: int, train: int = 5) -> Path:
    """The output of `prepare`: rows of very different lengths."""
    rows = [chat_row("Say it " * (i % 5), "abc" * (i + 1), i + 1) for i in range(max(held_out, train))]
    return write_rows(folder, rows[:train], rows[:held_out])


def _place(line: int) -> dict[str, str]:
    return {"source": f"rows.jsonl:{line}", "origin": "rows.jsonl", "kind": "", "rejected": ""}


def _table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    ids, text = pa.list_(pa.int32()), pa.string()
    columns = {"input_ids": ids, "labels": ids, "messages": text, "tools": text, "prompt_length": pa.int32()}
    columns |= dict.fromkeys(("source", "rejected", "origin", "kind"), text)
    return pa.Table.from_pylist(list(rows), pa.schema(columns))


def _write(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


class Reports(list[dict[str, Any]]):
    """A report that remembers what it was told."""

    def __call__(self, **values: Any) -> None:
        self.append(values)
