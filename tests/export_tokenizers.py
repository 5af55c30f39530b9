"""Tokenizers that merge, one for each way of cutting text that GGUF files know, trained on a few lines in a moment."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from families import CHATML
from sft_runner.exporting.gguf.cutting import PRE_TOKENIZERS

SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")
TEXT = [
    "It's 3.14159, 1,000,000 and 2024-07-26; WE'LL see  what\n\n\n  happens\ttoday, won't we?",
    "Zürich, Ελλάδα, Москва, 日本語のテキスト, العربية, हिन्दी, CamelCaseWords and snake_case_words",
    "def f(x):\n    return {'a': [x ** 2, \"b\"]}  # a comment && more != less\n\t\tpass",
    "the quick brown fox jumps over the lazy dog while the other dogs sleep in the sun, 12345 67890",
] * 20
SAID = [
    "Who's there?",
    "The 1234567th of März;   two  spaces\n\n\nand lines\r\n",
    "日本 Σ ñ 🙂 CamelCase don't WON'T x=[1,22,333]",
]
"""What they are asked to read."""


@cache
def byte_level(pre: str) -> PreTrainedTokenizerFast:
    """A tokenizer that cuts text as llama.cpp's `pre` does, and merges bytes."""
    steps, ignore_merges = next(key for key, name in PRE_TOKENIZERS.items() if name == pre)
    made: Any = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    made.pre_tokenizer = pre_tokenizers.Sequence([_step(*step) for step in steps])
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False))
    return _finished(made)


@cache
def sentencepiece(prefix: str = "never") -> PreTrainedTokenizerFast:
    """A tokenizer that merges characters, `prefix` is Metaspace's `prepend_scheme`."""
    made: Any = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", prefix, split=True)
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>"], show_progress=False)
    made.train_from_iterator(TEXT, trainer)
    parts = json.loads(made.to_str())
    vocab = parts["model"]["vocab"]
    for byte in range(256):
        vocab.setdefault(f"<0x{byte:02X}>", len(vocab))
    made = Tokenizer.from_str(json.dumps(parts))
    made.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", prefix, split=False)
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    return _finished(made)


def gemma_like() -> PreTrainedTokenizerFast:
    """The same, with the normalizer of Gemma and an added token of spaces."""
    made: Any = Tokenizer.from_str(sentencepiece().backend_tokenizer.to_str())
    made.normalizer = normalizers.Replace(" ", "\u2581")
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    return _finished(made)


def write(folder: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """The tokenizer's files."""
    tokenizer.save_pretrained(folder)
    return folder


def _finished(made: Any) -> PreTrainedTokenizerFast:
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    made.add_tokens([AddedToken("<think>", normalized=False)])
    found = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|pad|>")
    found.chat_template = CHATML
    return found


def _step(name: str, *values: Any) -> Any:
    if name == "digits":
        return pre_tokenizers.Digits(individual_digits=True)
    if name == "bytes":
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=values[0])
    return pre_tokenizers.Split(Regex(values[0]), "isolated")
