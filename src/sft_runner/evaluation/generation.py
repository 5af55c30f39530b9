"""The answers a model writes to prepared prompts by greedy decoding, many at a time.

Nothing but the model and the prompt decides: of its generation settings only the tokens that end an answer count.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sft_runner.errors import StageFailed
from sft_runner.model.memory import in_batches
from sft_runner.model.rows import Rows, padded
from sft_runner.stages.stage import Report


@dataclass(frozen=True)
class Answer:
    """What a model answered."""

    text: str
    """The answer without special tokens."""
    stopped: bool
    """Whether the model ended it itself, not the limit."""


def answers(
    model: Any, tokenizer: Any, rows: Rows, max_new_tokens: int, batch_size: int, report: Report
) -> list[Answer]:
    """One answer for each row's prompt, `input_ids[:prompt_length]`, in the order of the rows.

    What one row is answered does not depend on the others: rows with less room share a batch only with equals.
    """
    import torch

    lengths = list(rows["prompt_length"])
    limits = [room(length, max_new_tokens, context_of(model)) for length in lengths]
    order = sorted((i for i, limit in enumerate(limits) if limit), key=lengths.__getitem__, reverse=True)
    found = [Answer("", False)] * len(rows)
    done = len(rows) - len(order)
    with greedy(model, tokenizer) as (generator, settings):

        def write(batch: Sequence[int]) -> None:
            nonlocal done
            columns = rows[batch]
            prompts = [ids[:end] for ids, end in zip(columns["input_ids"], columns["prompt_length"], strict=True)]
            ids, mask = padded(prompts, settings.pad_token_id, model.device, left=True)
            width = ids.shape[1]
            settings.max_new_tokens = limits[batch[0]]
            with torch.inference_mode():
                written = generator.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
            for index, tokens in zip(batch, written[:, width:].tolist(), strict=True):
                found[index] = read(tokenizer, tokens, settings.eos_token_id)
            done += len(batch)
            report(step=done, steps=len(rows), message="generate")

        in_batches(_cut(order, limits, batch_size), write, report, _SMALLER)
    return found


def room(length: int, max_new_tokens: int, context: int | None) -> int:
    """Tokens that an answer to a prompt of `length` tokens may have; 0 where the prompt alone fills the context."""
    return max(min(max_new_tokens, context - length), 0) if context else max_new_tokens


def context_of(model: Any) -> int | None:
    """Tokens of prompt and answer that a model can see together; None where it does not say."""
    known: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return known


def read(tokenizer: Any, tokens: Sequence[int], stops: Sequence[int]) -> Answer:
    """The text up to the first token that ends an answer; what follows it is padding."""
    end = next((i for i, token in enumerate(tokens) if token in stops), None)
    text = tokenizer.decode(tokens[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Answer(text, end is not None)


def stop_tokens(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer, as the model's generation settings and its tokenizer name them."""
    own = model.generation_config.eos_token_id
    ends = own if isinstance(own, list) else [own]
    return sorted({token for token in (*ends, tokenizer.eos_token_id) if token is not None})


def required_stops(model: Any, tokenizer: Any) -> list[int]:
    """The same for a model that is to write answers. Raises `StageFailed` where there is none."""
    if stops := stop_tokens(model, tokenizer):
        return stops
    hint = "name an eos_token in its tokenizer_config.json"
    raise StageFailed("model.name: the model names no token that ends an answer", hint)


@contextmanager
def greedy(model: Any, tokenizer: Any) -> Iterator[tuple[Any, Any]]:
    """The module that generates as its tokens say and no other setting, and these settings.

    `generate` fills whatever it is not told from the model's `generation_config.json`, a repetition penalty too, so
    that is set aside meanwhile.
    """
    from transformers import GenerationConfig

    generator = model.get_base_model() if hasattr(model, "get_base_model") else model  # an adapter's layers stay in
    own = generator.generation_config
    stops = required_stops(generator, tokenizer)
    padding = stops[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    settings = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, use_cache=True, eos_token_id=stops, pad_token_id=padding
    )
    generator.generation_config = settings
    try:
        yield generator, settings
    finally:
        generator.generation_config = own


_SMALLER = "try, one after the other: a smaller evaluate.max_new_tokens, quantization.bits=4, a smaller data.max_length"
"""What is left when one row does not fit."""


def _cut(order: Sequence[int], limits: Sequence[int], size: int) -> Iterator[list[int]]:
    """Rows in batches of at most `size` that have the same limit; below `max_new_tokens` it is that of one length."""
    for _, equals in groupby(order, key=limits.__getitem__):
        group = list(equals)
        yield from (group[first : first + size] for first in range(0, len(group), size))
