"""What a served model is asked, and the proof that the server counts the tokens of training."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sft_runner.errors import StageFailed
from sft_runner.model.prompts import prompt_ids, tools_of
from sft_runner.serving.completion import Question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
        messages, tools = json.loads(row["messages"]), tools_of(row)
        first = _first_answer(messages)
        end = len(messages) - 1 if _oddity(row) == PLAIN or not first else first
        question = Question(messages[:end], tools)
        count = len(prompt_ids(tokenizer, messages[:end], tools))
        return Exam(row["source"], question, count, messages[end].get("content") or "")
    ids = row["input_ids"]
    end = row["prompt_length"] or (len(ids) + 1) // 2
    text = str(tokenizer.decode(ids[:end])).removeprefix(tokenizer.bos_token or "")  # servers put it there themselves
    expected = str(tokenizer.decode(ids[end:], skip_special_tokens=True))
    return Exam(row["source"], Question(text=text), len(tokenizer(text)["input_ids"]), expected)


def check_count(exam: Exam, prompt_tokens: int) -> None:
    """Raise `StageFailed` where the server saw another number of prompt tokens than its tokenizer makes."""
    if prompt_tokens != exam.prompt_tokens:
        raise StageFailed(
            f"row {exam.source}: the server counted {prompt_tokens} prompt tokens, the trained template makes "
            f"{exam.prompt_tokens}",
            "the engine adds or drops tokens around the chat template; see the server's log",
        )


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
