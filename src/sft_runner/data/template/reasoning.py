"""Reasoning in answers: beside the content, or between think tags at its start."""

import re
from collections.abc import Sequence

from sft_runner.data.row import Message

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


def dropped(messages: Sequence[Message]) -> list[Message]:
    """The messages without reasoning."""
    return [_without(message) if parted(message)[0] else message for message in messages]


def _without(message: Message) -> Message:
    kept = {key: value for key, value in message.items() if key != "reasoning_content"}
    tagged = _TAGGED.fullmatch(message["content"])
    return {**kept, "content": tagged[2].lstrip("\n")} if tagged else kept
