"""The proof of the prompts: a model's tokenizer and chat template make the token ids of training, on real rows."""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sft_runner.data.template import Renderer
from sft_runner.errors import StageFailed
from sft_runner.model.rows import is_conversation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DATE = "strftime_now"
"""What a template calls to write the date."""
CONTEXT_TOKENS = 16
"""Tokens shown on each side of the first difference."""


def check_prompts(tokenizer: "PreTrainedTokenizerBase", rows: Iterable[Mapping[str, Any]]) -> int:
    """The number of chats whose prompts the served tokenizer turns into the ids of training.

    Raises `StageFailed` at the first row for which it does not.
    """
    from jinja2 import TemplateError

    checked = 0
    for row in filter(is_conversation, rows):
        trained = list(row["input_ids"][: row["prompt_length"]])
        messages = json.loads(row["messages"])[:-1]
        try:
            served = _as_trained(tokenizer, messages, tools_of(row))
        except (TemplateError, ValueError) as error:  # ValueError: it has no template at all
            raise StageFailed(
                f"proof of the prompts: row {row['source']}: the served model's chat template fails: {error}", _AGAIN
            ) from None
        if served != trained:
            raise _different(tokenizer, row["source"], served, trained)
        checked += 1
    return checked


def prompt_ids(tokenizer: "PreTrainedTokenizerBase", messages: list[Any], tools: list[Any]) -> list[int]:
    """Prompt ids as a server makes them today."""
    found: Any = tokenizer.apply_chat_template(
        messages, tools=tools or None, add_generation_prompt=True, return_dict=False
    )
    return list(found)


def tools_of(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tools that a prepared row offers."""
    return json.loads(row["tools"]) if row["tools"] else []


_AGAIN = "the merged model's tokenizer or chat template is not the one of training; run again with force=[merge]"


def _as_trained(tokenizer: "PreTrainedTokenizerBase", messages: list[Any], tools: list[Any]) -> list[int]:
    """Prompt ids by the served template; one that writes the date writes the date of training."""
    if DATE in str(tokenizer.chat_template):
        return Renderer(tokenizer).prompt_ids(messages, tools)
    return prompt_ids(tokenizer, messages, tools)


def _different(tokenizer: "PreTrainedTokenizerBase", source: str, served: list[int], trained: list[int]) -> StageFailed:
    """What differs first, and how both look there."""
    pairs = enumerate(zip(served, trained, strict=False))
    position = next((i for i, (a, b) in pairs if a != b), min(len(served), len(trained)))
    around = slice(max(0, position - CONTEXT_TOKENS), position + CONTEXT_TOKENS)
    return StageFailed(
        f"proof of the prompts: row {source}: the served prompt is not the trained one, from token {position} on\n"
        f"    trained: {tokenizer.decode(trained[around])!r}\n"
        f"    served:  {tokenizer.decode(served[around])!r}",
        _AGAIN,
    )
