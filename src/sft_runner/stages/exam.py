"""What a served model is asked, and the proof that it is asked in the tokens of training."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sft_runner.data.template import Renderer
from sft_runner.errors import StageFailed
from sft_runner.model.rows import is_conversation
from sft_runner.serving.completion import Question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DATE = "strftime_now"
"""What a template calls to write the date."""
CONTEXT_TOKENS = 16
"""Tokens shown on each side of the first difference."""


@dataclass(frozen=True)
class Exam:
    """What the server is asked, and what it must make of it."""

    source: str
    """The row that it comes from."""
    question: Question
    """The question."""
    prompt_tokens: int
    """Tokens that the served tokenizer makes of it."""
    expected: str
    """The row's own answer."""


def choose(tokenizer: "PreTrainedTokenizerBase", rows: Iterable[Mapping[str, Any]]) -> Exam:
    """The plainest question among prepared rows, the first of equals.

    Servers read tool calls and reasoning in earlier turns differently, so a chat with these is asked only up to its
    first answer. Without a chat it is the prompt of code to fill in, or the first half of a plain text.
    """
    order = sorted(rows, key=_oddity)  # stable
    row = order[0]
    if _oddity(row) < TEXT:
        messages, tools = json.loads(row["messages"]), _tools(row)
        first = _first_answer(messages)
        end = len(messages) - 1 if _oddity(row) == PLAIN or not first else first
        question = Question(messages[:end], tools)
        count = len(_ids(tokenizer, messages[:end], tools))
        return Exam(row["source"], question, count, messages[end].get("content") or "")
    ids = row["input_ids"]
    end = row["prompt_length"] or (len(ids) + 1) // 2
    text = str(tokenizer.decode(ids[:end])).removeprefix(tokenizer.bos_token or "")  # servers put it there themselves
    expected = str(tokenizer.decode(ids[end:], skip_special_tokens=True))
    return Exam(row["source"], Question(text=text), len(tokenizer(text)["input_ids"]), expected)


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
            served = _as_trained(tokenizer, messages, _tools(row))
        except (TemplateError, ValueError) as error:  # ValueError: it has no template at all
            raise StageFailed(f"row {row['source']}: the served model's chat template fails: {error}", _AGAIN) from None
        if served != trained:
            raise _different(tokenizer, row["source"], served, trained)
        checked += 1
    return checked


def check_count(exam: Exam, prompt_tokens: int) -> None:
    """Raise `StageFailed` where the server saw another number of prompt tokens than its tokenizer makes."""
    if prompt_tokens != exam.prompt_tokens:
        raise StageFailed(
            f"row {exam.source}: the server counted {prompt_tokens} prompt tokens, the trained template makes "
            f"{exam.prompt_tokens}",
            "the engine adds or drops tokens around the chat template; see the server's log",
        )


_AGAIN = "the merged model's tokenizer or chat template is not the one of training; run again with force=[merge]"
PLAIN, WITH_TOOLS, ODD, TEXT = range(4)
"""How hard a row's question is to ask over HTTP."""


def _oddity(row: Mapping[str, Any]) -> int:
    messages = json.loads(row["messages"])
    if not messages:
        return TEXT
    if any(message.keys() - {"role", "content"} for message in messages[:-1]):
        return ODD
    return WITH_TOOLS if row["tools"] else PLAIN


def _first_answer(messages: list[dict[str, Any]]) -> int:
    """How many messages stand before it."""
    return next((i for i, message in enumerate(messages) if message["role"] == "assistant"), 0)


def _tools(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    return json.loads(row["tools"]) if row["tools"] else []


def _as_trained(tokenizer: "PreTrainedTokenizerBase", messages: list[Any], tools: list[Any]) -> list[int]:
    """Prompt ids by the served template; one that writes the date writes the date of training."""
    if DATE in str(tokenizer.chat_template):
        return Renderer(tokenizer).prompt_ids(messages, tools)
    return _ids(tokenizer, messages, tools)


def _ids(tokenizer: "PreTrainedTokenizerBase", messages: list[Any], tools: list[Any]) -> list[int]:
    """Prompt ids as a server makes them today."""
    found: Any = tokenizer.apply_chat_template(
        messages, tools=tools or None, add_generation_prompt=True, return_dict=False
    )
    return list(found)


def _different(tokenizer: "PreTrainedTokenizerBase", source: str, served: list[int], trained: list[int]) -> StageFailed:
    """What differs first, and how both look there."""
    pairs = enumerate(zip(served, trained, strict=False))
    position = next((i for i, (a, b) in pairs if a != b), min(len(served), len(trained)))
    around = slice(max(0, position - CONTEXT_TOKENS), position + CONTEXT_TOKENS)
    return StageFailed(
        f"row {source}: the served prompt is not the trained one, from token {position} on\n"
        f"    trained: {tokenizer.decode(trained[around])!r}\n"
        f"    served:  {tokenizer.decode(served[around])!r}",
        _AGAIN,
    )
