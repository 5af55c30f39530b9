"""One turn, as OpenAI (`role`, `content`) or ShareGPT (`from`, `value`) write it, as a chat message."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from sft_runner.data.formats.calls import Calls
from sft_runner.data.formats.values import kind, text, to_json
from sft_runner.data.row import Message, Row

CALLING = "function_call"
ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", CALLING), "assistant"),
    **dict.fromkeys(("tool", "observation", "function", "function_response"), "tool"),
}
"""A role as written -> the chat template's."""
REASONING = ("reasoning_content", "reasoning", "thinking")
UNREAD = ("audio", "images", "videos", "refusal", "loss", "mask", "train_detail")
"""Keys of a message that say more than its text; ignoring them would train something else than was meant."""


@dataclass(slots=True)
class Turn:
    """One turn of a conversation."""

    message: Message
    """Its message."""
    trained: bool = True
    """False where it says that it carries no loss."""
    only_calls: bool = False
    """Whether it is nothing but the calls of an assistant: it goes on with what that one says before."""


def read(row: Row, place: str, written: Any, calls: Calls) -> Turn:
    """A turn; `calls` numbers its tool calls, or finds the one that it answers. Raises `DataError` naming the place."""
    if not isinstance(written, dict):
        raise row.error(f"{place} is {kind(written)}, not a message", "write {role, content}")
    names = ("role", "content") if written.get("from") is None else ("from", "value")
    role, content = _role(row, place, written.get(names[0])), written.get(names[1])
    place_of_content = f"{place}.{names[1]}"
    if written.get(names[0]) == CALLING:
        made = calls.read(place_of_content, content)
        return Turn({"role": role, "content": "", "tool_calls": made}, only_calls=True)
    if len(written) == 2:
        turn = Turn({"role": role, "content": _content(row, place_of_content, role, content)})
    else:
        made = _calls(row, place, role, written, calls)
        said = "" if content is None and made else _content(row, place_of_content, role, content)
        turn = Turn({"role": role, "content": said}, _trained(row, place, role, written))
        turn.message |= _reasoning(row, place, role, written)
        if made:
            turn.message["tool_calls"] = made
    if role == "tool":
        turn.message |= calls.answered(place, written.get("tool_call_id"), written.get("name"))
    return turn


def _role(row: Row, place: str, written: Any) -> str:
    if isinstance(written, str) and written in ROLES:
        return ROLES[written]
    close = get_close_matches(str(written).lower(), ROLES, n=1, cutoff=0.6)
    known = "roles are system, user (human), assistant (gpt), tool (observation) and function_call"
    raise row.error(
        f"{place} has the role {written!r}" if written is not None else f"{place} has no role",
        f"did you mean '{close[0]}'? {known}" if close else known,
    )


def _content(row: Row, place: str, role: str, content: Any) -> str:
    if isinstance(content, list) and content:
        return "\n".join(_part(row, f"{place}[{i}]", part) for i, part in enumerate(content))  # as vLLM joins them
    if role == "tool" and isinstance(content, dict):
        return to_json(row, place, content)
    return text(row, place, content)


def _part(row: Row, place: str, part: Any) -> str:
    written = part.get("type", "text") if isinstance(part, dict) else None
    if written == "text":
        return text(row, f"{place}.text", part.get("text"))
    what = f"a part of type {written!r}" if written else kind(part)
    raise row.error(
        f"{place} is {what}, not a text part", 'only {"type": "text", "text": ...} is read; leave the row out'
    )


def _calls(row: Row, place: str, role: str, written: dict[str, Any], calls: Calls) -> list[dict[str, Any]]:
    """The calls of a message; `function_call` is OpenAI's older word for a single one."""
    for key in ("tool_calls", CALLING):
        if value := written.get(key):
            if role != "assistant":
                raise row.error(f"{place}.{key} stands in a {role} turn", "only an assistant calls tools")
            return calls.read(f"{place}.{key}", value)
    return []


def _reasoning(row: Row, place: str, role: str, written: dict[str, Any]) -> dict[str, str]:
    for key in REASONING if role == "assistant" else ():
        if value := written.get(key):
            return {"reasoning_content": text(row, f"{place}.{key}", value)}
    return {}


def _trained(row: Row, place: str, role: str, written: dict[str, Any]) -> bool:
    """What a message says of itself by `train` or `weight`."""
    for key in UNREAD:
        if written.get(key) is not None:
            raise row.error(f"{place}.{key} is not read", "remove it, or leave the row out")
    train, weight = written.get("train"), written.get("weight")
    if train is not None and not isinstance(train, bool):
        raise row.error(f"{place}.train is {train!r}", "write true or false")
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        raise row.error(f"{place}.weight is {weight!r}", "write 0 or 1; other weights are not read")
    if train is False or weight == 0:
        return False
    if role != "assistant" and (train or weight):
        raise row.error(
            f"{place} asks to be trained, but it is a {role} turn",
            "only assistant turns carry loss; data.train_on=all trains every token",
        )
    return True
