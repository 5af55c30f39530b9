"""Whether a template wrote everything that a conversation says."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sft_runner.data.row import Message, Tool
from sft_runner.data.template.reasoning import parted

_SWITCH = re.compile(r"/(?:(?:no_)?think|system_override)\b")
"""Words in a system message that SmolLM3 and Qwen 3 read as a switch and leave out."""


def lost(messages: Sequence[Message], tools: Sequence[Tool], text: str, answers: Mapping[int, str]) -> str:
    """What is not in the text, in words; empty where nothing is lost. Reasoning is not looked for.

    `answers` are the parts of the text that answers must stand in, by the index of their message.
    """
    for index, message in enumerate(messages):
        own = answers.get(index, text)
        said = parted(message)[1]
        if said not in own and not _stands(said, own):
            return f"the {message['role']} message {_short(said)}"
        if (calls := message.get("tool_calls")) and (missing := _lost_call(calls, said, own)):
            return missing
    for tool in tools:
        name = tool.get("function", tool).get("name", "")
        if name not in text:
            return f"the tool {name}"
    return ""


def _lost_call(calls: Sequence[Mapping[str, Any]], said: str, own: str) -> str:
    """What of the calls of an answer is not in its part of the text."""
    names = Counter(call["function"]["name"] for call in calls)
    for name in names:
        if name not in own:
            return f"the call of {name}"
    spoken = [said]
    for call in calls:
        function = call["function"]
        for value in _leaves(function["arguments"]):
            if not _stands(value, own):
                return f"the argument {_short(value)} of a call of {function['name']}"
            spoken.append(str(value))
    for name, times in names.items():
        word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")  # what is said may name the function too
        if len(word.findall(own)) < times + sum(len(word.findall(one)) for one in spoken if name in one):
            return f"the call of {name}" if times == 1 else f"each of the {times} calls of {name}"
    return ""


def _stands(value: Any, text: str) -> bool:
    """Whether a value stands in a text as it is, or as JSON or Python write it."""
    if not isinstance(value, str):
        return any(
            re.search(rf"(?<![\w.-]){re.escape(form)}(?!\w|\.\d)", text) for form in (json.dumps(value), str(value))
        )
    plain = value.strip()
    forms = (plain, json.dumps(plain, ensure_ascii=False)[1:-1], json.dumps(plain)[1:-1], repr(plain)[1:-1])
    return any(form in text for form in forms) or _SWITCH.sub("", plain).strip() in text


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)
    else:
        yield value


def _short(value: Any) -> str:
    text = str(value)
    return repr(text if len(text) <= 40 else text[:37] + "...")
