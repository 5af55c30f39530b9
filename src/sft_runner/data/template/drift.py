"""Whether earlier answers stand behind the prompts that a server would have sent for them.

Templates may write the past otherwise once a conversation goes on: without the thoughts of earlier answers, or with the
tools in front of the last question. A model that learns such an answer learns it behind a prompt that it never sees.
"""

from collections.abc import Sequence

from sft_runner.data.row import Message, Tool
from sft_runner.data.template.reasoning import beside, reasons
from sft_runner.data.template.rendering import Renderer

_ID = "call00001"
_CALL = {"id": _ID, "type": "function", "function": {"name": "look", "arguments": {"at": "it"}}}
_TOOL: Tool = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look.",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
    },
}


class Drift:
    """Finds such answers. Whether a template makes any is tried once for each kind of conversation."""

    def __init__(self, renderer: Renderer, reasoning: bool) -> None:
        self._renderer, self._reasoning = renderer, reasoning
        self._steady: dict[tuple[bool, bool, bool], bool] = {}

    def earlier(self, messages: list[Message], tools: Sequence[Tool], text: str) -> list[int]:
        """The indices of answers, the last one aside, whose prompt `text` does not begin with."""
        answers = [i for i, message in enumerate(messages[:-1]) if message["role"] == "assistant"]
        if not answers:
            return []
        calls = bool(tools) or any("tool_calls" in message for message in messages)
        kind = (messages[0]["role"] == "system", calls, reasons(messages))
        if kind not in self._steady:
            self._steady[kind] = self._tried(*kind)
        return [] if self._steady[kind] else self._behind_another(messages, tools, text, answers)

    def _tried(self, system: bool, calls: bool, thoughts: bool) -> bool:
        """Whether the prompts of a made-up conversation stay as they are."""
        messages = _made_up(system, calls, thoughts)
        messages = beside(messages) if self._reasoning else messages
        tools = [_TOOL] if calls else []
        answers = [i for i, message in enumerate(messages[:-1]) if message["role"] == "assistant"]
        try:
            return not self._behind_another(messages, tools, self._renderer.text(messages, tools), answers)
        except Exception:  # a template can raise anything; then each row is tried
            return False

    def _behind_another(
        self, messages: Sequence[Message], tools: Sequence[Tool], text: str, answers: Sequence[int]
    ) -> list[int]:
        prompt = self._renderer.text
        return [i for i in answers if not text.startswith(prompt(messages[:i], tools, prompt=True))]


def _made_up(system: bool, calls: bool, thoughts: bool) -> list[Message]:
    """Three questions, the first one with a call. No two are the same, for templates that look for one by its words."""
    thought = "<think>\nhm\n</think>\n\n" if thoughts else ""
    called: list[Message] = [
        {"role": "assistant", "content": thought, "tool_calls": [_CALL]},
        {"role": "tool", "content": "seen", "tool_call_id": _ID, "name": "look"},
    ]
    messages: list[Message] = [{"role": "system", "content": "be"}] if system else []
    for number in "123":
        messages.append({"role": "user", "content": f"ask {number}"})
        messages += called if calls and number == "1" else []
        messages.append({"role": "assistant", "content": f"{thought}say {number}"})
    return messages
