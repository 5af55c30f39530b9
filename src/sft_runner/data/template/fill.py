"""Code with a hole, in the tokens that the model knows for it: what stands before, what stands behind, the middle."""

from dataclasses import dataclass
from typing import Any

from sft_runner.data.row import Fill
from sft_runner.data.template.encoded import IGNORED, Encoded

FAMILIES = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", ""),  # Qwen Coder, CodeGemma
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>", ""),  # StarCoder, Granite
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>", ""),  # SantaCoder
    ("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"),  # CodeLlama
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", ""),  # DeepSeek Coder
)
"""Tokens before the prefix, the suffix and the middle, and behind the middle; an empty one is the end of text."""


@dataclass(frozen=True)
class FillTokens:
    """The tokens of one model."""

    prefix: int
    suffix: int
    middle: int
    end: int
    names: tuple[str, ...]
    """Their texts, which no code may hold."""

    def encode(self, tokenizer: Any, fill: Fill, begin: list[int]) -> Encoded:
        """Prefix, suffix, middle; only the middle and its end are trained. `begin` starts every text."""
        batch = tokenizer.encode_batch_fast([fill.prefix, fill.suffix, fill.middle], add_special_tokens=False)
        prefix, suffix, middle = (encoding.ids for encoding in batch)
        prompt = [*begin, self.prefix, *prefix, self.suffix, *suffix, self.middle]
        answer = [*middle, self.end]
        return Encoded([*prompt, *answer], [IGNORED] * len(prompt) + answer, len(prompt), len(answer), [], [])


def fill_tokens(tokenizer: Any) -> FillTokens | None:
    """Those of the first family whose tokens the vocabulary holds, or None."""
    vocabulary = tokenizer.get_vocab()
    for family in FAMILIES:
        prefix, suffix, middle, end = (vocabulary.get(name) for name in family)
        end = tokenizer.eos_token_id if end is None else end
        if None not in (prefix, suffix, middle, end):
            return FillTokens(prefix, suffix, middle, end, tuple(filter(None, family)))
    return None
