"""What helps with a conversation that the template refuses, found out by trying."""

from collections.abc import Iterator
from dataclasses import replace

from sft_runner.data.row import Example
from sft_runner.data.template.writing import Writer
from sft_runner.errors import DataError

_SWITCHES: tuple[tuple[str, bool | str], ...] = (
    ("enable_thinking", False),
    ("enable_thinking", True),
    ("thinking", False),
    ("thinking", True),
    ("reasoning_effort", "none"),
)
"""Values by which templates of reasoning models write their answers otherwise."""


def remedied(error: DataError, writer: Writer, example: Example, reasoning: str) -> DataError:
    """The error, with what helps in front of its hint."""
    return DataError(error.message, ", or ".join(filter(None, (*_remedies(writer, example, reasoning), error.hint))))


def _remedies(writer: Writer, example: Example, reasoning: str) -> Iterator[str]:
    for other in ("last", "keep", "drop"):
        if other != reasoning and _works(writer, example, other):
            yield f"set data.reasoning={other}"
    for key, value in _SWITCHES:
        if _asks_as_it_writes(writer, example, key, value):
            yield f"set data.chat_template_kwargs={{{key}: {str(value).lower()}}}"
            break
    first, *rest = example.messages
    if first["role"] == "system" and rest and rest[0]["role"] == "user":
        text = first["content"].strip()
        question = {**rest[0], "content": f"{text}\n\n{rest[0]['content']}"} if text else rest[0]
        if _works(writer, replace(example, messages=[question, *rest[1:]]), reasoning):
            yield "put the system text in front of the first question" if text else "remove the empty system message"


def _works(writer: Writer, example: Example, reasoning: str) -> bool:
    try:
        return bool(writer.write(example, reasoning))
    except DataError:
        return False


def _asks_as_it_writes(writer: Writer, example: Example, key: str, value: bool | str) -> bool:
    """Whether with this value, but not without it, the last answer stands behind its prompt."""
    renderer = writer.renderer
    messages, tools = example.messages, example.tools
    try:
        before, after = (
            one.text(messages, tools).startswith(one.text(messages[:-1], tools, prompt=True))
            for one in (renderer, renderer.given({key: value}))
        )
    except Exception:  # a template can raise anything
        return False
    return after and not before
