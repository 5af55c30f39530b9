"""Reasoning in answers: beside the content, or between think tags at its start."""

import re
from collections.abc import Callable, Sequence

from sft_runner.data.row import Message

TAGS = ("<think>", "</think>")
_TAGGED = re.compile(r"\s*<think>(.*?)</think>(.*)", re.DOTALL)


def parted(message: Message) -> tuple[str, str]:
    """Reasoning and what is said, both without white space around them."""
    content: str = message["content"]
    if message["role"] != "assistant":
        return "", content.strip()
    if beside := message.get("reasoning_content"):
        return beside.strip(), content.strip()
    found = _TAGGED.fullmatch(content) if "</think>" in content else None
    return (found[1].strip(), found[2].strip()) if found else ("", content.strip())


def dropped(messages: list[Message]) -> list[Message]:
    """The messages without reasoning."""
    return _each(messages, _without)


def beside(messages: list[Message]) -> list[Message]:
    """The messages with their reasoning beside the content, for templates that write it in their own words."""
    return _each(messages, _beside)


def spoken(messages: list[Message]) -> list[Message]:
    """The messages with their reasoning as the beginning of what is said."""
    return _each(messages, _spoken)


def reasons(messages: Sequence[Message]) -> bool:
    """Whether any answer holds reasoning."""
    return any(
        message["role"] == "assistant"
        and ("reasoning_content" in message or TAGS[1] in message["content"])
        and parted(message)[0]
        for message in messages
    )


def _each(messages: list[Message], change: Callable[[Message], Message]) -> list[Message]:
    if not reasons(messages):
        return messages
    return [change(message) if parted(message)[0] else message for message in messages]


def _without(message: Message) -> Message:
    kept = {key: value for key, value in message.items() if key != "reasoning_content"}
    tagged = _TAGGED.fullmatch(message["content"])
    return {**kept, "content": tagged[2].lstrip("\n")} if tagged else kept


def _beside(message: Message) -> Message:
    if message.get("reasoning_content"):
        return message
    return {**_without(message), "reasoning_content": parted(message)[0]}


def _spoken(message: Message) -> Message:
    reasoning, said = parted(message)
    return {**_without(message), "content": f"{reasoning}\n\n{said}" if said else reasoning}
