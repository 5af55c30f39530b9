"""Messages as text, as every server that runs on transformers' template environment writes them."""

from collections.abc import Mapping, Sequence
from copy import copy
from datetime import datetime
from typing import Any

from sft_runner.data.row import Message, Tool

FIXED_DATE = datetime(2024, 7, 26)
"""Today, for templates that write the date (Llama 3.2, SmolLM3, gpt-oss): the same rows must give the same ids
tomorrow. It is the date that Llama's template takes where none is known."""


def compiled(text: str) -> Any:
    """A chat template in transformers' environment. Raises jinja2's `TemplateSyntaxError`."""
    # Not `apply_chat_template`: it takes no function as value, so the date could not be held still.
    from transformers.utils.chat_template_utils import _compile_jinja_template

    return _compile_jinja_template(text)


class Renderer:
    """The chat template of a tokenizer. With `date=None` it writes the real date, as a server does."""

    def __init__(self, tokenizer: Any, date: datetime | None = FIXED_DATE) -> None:
        self._tokenizer = tokenizer
        self._template = compiled(tokenizer.get_chat_template())
        self._values: dict[str, Any] = {**self._template.globals, **tokenizer.special_tokens_map, "documents": None}
        if date is not None:
            self._values["strftime_now"] = date.strftime

    def text(self, messages: Sequence[Message], tools: Sequence[Tool] = (), prompt: bool = False) -> str:
        """The conversation as text, with what invites an answer behind it if it is a prompt.

        Whatever the template raises goes through. One that fails without the description of a tool (gpt-oss) is
        given an empty one; those that print tools as JSON see them as they are.
        """
        try:
            return self._text(messages, tools, prompt)
        except Exception:
            described = [_described(tool) for tool in tools]
            if described == list(tools):
                raise
            return self._text(messages, described, prompt)

    def given(self, values: Mapping[str, Any]) -> "Renderer":
        """The same template as it writes with these values."""
        other = copy(self)
        other._values = {**self._values, **values}
        return other

    def prompt_ids(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> list[int]:
        """The token ids that a server starts to answer from."""
        ids: list[int] = self._tokenizer(self.text(messages, tools, prompt=True), add_special_tokens=False)["input_ids"]
        return ids

    def _text(self, messages: Sequence[Message], tools: Sequence[Tool], prompt: bool) -> str:
        values = {
            **self._values,
            "messages": [_aliased(m) if "reasoning_content" in m else m for m in messages],
            "tools": list(tools) or None,
            "add_generation_prompt": prompt,
        }
        # What `render` does, but for merging the globals anew each time: that alone takes as long as a short template.
        context = self._template.new_context(values, shared=True)
        return "".join(self._template.root_render_func(context))


def _aliased(message: Message) -> Message:
    """gpt-oss calls reasoning `thinking`; transformers gives templates both names."""
    return {"thinking": message["reasoning_content"], **message}


def _described(tool: Tool) -> Tool:
    function = tool.get("function", {})
    return {**tool, "function": {**function, "description": function.get("description") or ""}}
