"""Examples that are well-formed but hold nothing to learn."""

from sft_runner.data.row import Dropped, Example


def reason_to_drop(example: Example) -> Dropped | None:
    """Why there is nothing to learn, or None. An answer that only calls a tool says enough."""
    if example.fill:
        asked = bool(example.fill.prefix.strip() or example.fill.suffix.strip())
        return _reason(asked, bool(example.fill.middle.strip()))
    if not example.messages:
        return _reason(True, bool(example.text.strip()))
    asked, answered = False, True
    for message in example.messages:
        if message["role"] == "user":
            asked = asked or bool(message["content"].strip())
        elif message["role"] == "assistant" and not message["content"].strip() and not message.get("tool_calls"):
            answered = False
    return _reason(asked, answered)


def _reason(asked: bool, answered: bool) -> Dropped | None:
    if not asked:
        return Dropped.EMPTY_PROMPT
    return None if answered else Dropped.EMPTY_ANSWER
