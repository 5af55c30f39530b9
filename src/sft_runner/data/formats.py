"""From a row to chat messages: the formats, and how they are told apart by their columns.

A file has one format, set by `data.format` or found on its first row. A row of another shape is an error that names
the row; a row that is well-formed but holds nothing to learn is left to `reason_to_drop`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from sft_runner.data.row import Dropped, Message, Row
from sft_runner.errors import DataError

ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
"""A role as written -> the chat template's."""
UNREAD = ("tool_calls", "function_call", "reasoning_content", "weight", "train")
"""Keys of a message that say more than its text; ignoring them would train something else than was meant."""


@dataclass(frozen=True)
class Format:
    """One way to write a row."""

    name: str
    """The value of `data.format`."""
    columns: tuple[tuple[str, ...], ...]
    """The sets of columns it can be known by; a row needs all columns of one set."""
    convert: Callable[[Row], list[Message]]
    """The messages of a row that has the columns."""

    def fits(self, row: Row) -> bool:
        """Whether the row has the columns; a null counts as missing."""
        return any(all(row.values.get(column) is not None for column in columns) for columns in self.columns)

    def messages(self, row: Row) -> list[Message]:
        """The row as messages. Raises `DataError` for a row of another shape."""
        if not self.fits(row):
            raise self._misfit(row)
        return self.convert(row)

    def needs(self) -> str:
        """Its columns in words: `instruction + output`."""
        return " or ".join(" + ".join(columns) for columns in self.columns)

    def _misfit(self, row: Row) -> DataError:
        missing = next((c for c in min(self.columns, key=len) if row.values.get(c) is None), "")
        state = "is null" if missing in row.values else "is missing"
        other = next((f for f in FORMATS.values() if f.name != "python" and f.fits(row)), None)
        hint = f"the row looks like {other.name}; one file holds one format, so split it" if other else ""
        return row.error(
            f"{missing} {state}; {self.name} needs {self.needs()}, the columns are {_listed(row.values)}",
            hint or _near_misses(row.values) or "every row needs them",
        )


def choose(name: str, row: Row) -> Format:
    """The format that `data.format` names, or for `auto` the one whose columns the first row has."""
    for column in ("chosen", "rejected"):
        if row.values.get(column) is not None:
            raise row.error(
                f"the column {column} makes it preference data, which is not read", "give rows with one answer each"
            )
    if name != "auto":
        return FORMATS[name]
    fitting = [f for f in FORMATS.values() if f.name != "python" and f.fits(row)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = " or ".join(f.name for f in fitting)
        raise row.error(f"the columns fit {names}: {_listed(row.values)}", f"say which: data.format={fitting[0].name}")
    asked = any(row.values.get(column) is not None for column in ("instruction", "question", "prompt"))
    needs = "a row needs " + ", ".join(f.needs() for f in FORMATS.values() if f.name != "python")
    raise row.error(
        f"no {'answer column' if asked else 'format has these columns'}: {_listed(row.values)}",
        "; ".join(filter(None, (_near_misses(row.values), needs))),
    )


def reason_to_drop(messages: list[Message]) -> Dropped | None:
    """Why there is nothing to learn from a conversation, or None."""
    if not any(m["role"] == "user" and m["content"].strip() for m in messages):
        return Dropped.EMPTY_PROMPT
    if messages[-1]["role"] != "assistant":
        return Dropped.ENDS_WITH_USER
    if any(m["role"] == "assistant" and not m["content"].strip() for m in messages):
        return Dropped.EMPTY_ANSWER
    return None


def _alpaca(row: Row) -> list[Message]:
    if row.values.get("history"):
        raise row.error("history is not read", "write the earlier turns as messages: [{role, content}, ...]")
    instruction, more = _text(row, "instruction"), _optional(row, "input")
    return [
        *_system(row),
        {"role": "user", "content": "\n".join(filter(None, (instruction, more)))},
        {"role": "assistant", "content": _text(row, "output")},
    ]


def _qa(row: Row) -> list[Message]:
    context, question = _optional(row, "context"), _text(row, "question")
    return [
        *_system(row),
        {"role": "user", "content": f"{context}\n\n{question}" if context else question},
        {"role": "assistant", "content": _text(row, "answer")},
    ]


def _chat(row: Row) -> list[Message]:
    column = "messages" if row.values.get("messages") is not None else "conversations"
    messages = _turns(row, column)
    if messages[:1] and messages[0]["role"] == "system":
        return messages
    return [*_system(row), *messages]


def _prompt_completion(row: Row) -> list[Message]:
    parts = (("prompt", "user"), ("completion", "assistant"))
    messages: list[Message] = []
    for column, role in parts:
        value = row.values[column]
        messages += _turns(row, column) if isinstance(value, list) else [{"role": role, "content": _text(row, column)}]
    return messages


FORMATS = {
    f.name: f
    for f in (
        Format("alpaca", (("instruction", "output"),), _alpaca),
        Format("qa", (("question", "answer"),), _qa),
        Format("prompt_completion", (("prompt", "completion"),), _prompt_completion),
        Format("chat", (("messages",), ("conversations",)), _chat),
        Format("python", (("prompt", "completion"),), _prompt_completion),  # rows made by `python_code`
    )
}


def _turns(row: Row, column: str) -> list[Message]:
    """A list of messages, as OpenAI (`role`, `content`) or ShareGPT (`from`, `value`) write them."""
    turns = row.values[column]
    if not isinstance(turns, list):
        raise row.error(f"{column} is {_kind(turns)}, not a list of messages", "write [{role, content}, ...]")
    if row.values.get("tools") not in (None, "", [], "[]"):
        _refuse_unknown_role(row, column, turns)
        raise row.error("tools is not read", "remove the column, or the rows that have tools")
    messages = [_turn(row, f"{column}[{i}]", turn) for i, turn in enumerate(turns)]
    for i in range(1, len(messages)):
        if messages[i]["role"] == messages[i - 1]["role"] == "assistant":
            raise row.error(f"{column}[{i}] is a second assistant turn in a row", "join the two, or split the row")
    return messages


def _refuse_unknown_role(row: Row, column: str, turns: list[Any]) -> None:
    """In a row with tools the role that cannot be read says more than the column `tools`."""
    for i, turn in enumerate(turns):
        if isinstance(turn, dict):
            _role(row, f"{column}[{i}]", turn.get("role", turn.get("from")))


def _turn(row: Row, place: str, turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise row.error(f"{place} is {_kind(turn)}, not a message", "write {role, content}")
    names = ("from", "value") if "from" in turn else ("role", "content")
    role = _role(row, place, turn.get(names[0]))
    for key in UNREAD:
        if turn.get(key) is not None:
            raise row.error(f"{place}.{key} is not read", "remove it, or the row")
    return {"role": role, "content": _checked(row, f"{place}.{names[1]}", turn.get(names[1]))}


def _role(row: Row, place: str, role: Any) -> str:
    if isinstance(role, str) and role in ROLES:
        return ROLES[role]
    raise row.error(
        f"{place} has the role {role!r}" if role is not None else f"{place} has no role",
        "roles are system, user (human) and assistant (gpt); turns of tools are not read",
    )


def _system(row: Row) -> list[Message]:
    text = _optional(row, "system")
    return [{"role": "system", "content": text}] if text else []


def _optional(row: Row, column: str) -> str:
    return "" if row.values.get(column) is None else _text(row, column)


def _text(row: Row, column: str) -> str:
    return _checked(row, column, row.values[column])


def _checked(row: Row, place: str, value: Any) -> str:
    """A value that must be text, and text that a tokenizer can take."""
    if not isinstance(value, str):
        raise row.error(f"{place} is {_kind(value)}, not text", "write it as a string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise row.error(
                f"{place} has half a character at position {error.start}: {value[error.start]!r}",
                "a surrogate needs its other half; write the text again as UTF-8",
            ) from None
    return value


def _kind(value: Any) -> str:
    """What a JSON value is, in words."""
    if isinstance(value, bool):
        return "true or false"
    kinds = {type(None): "null", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)


def _near_misses(columns: Iterable[str]) -> str:
    """A suggestion for columns that are almost the name of a known one."""
    known = sorted({name for f in FORMATS.values() for names in f.columns for name in names})
    columns = list(columns)
    pairs = [
        (column, get_close_matches(column.lower(), [k for k in known if k not in columns], n=1, cutoff=0.75))
        for column in columns
        if column not in known
    ]
    return ", ".join(f"did you mean '{close[0]}' by '{column}'?" for column, close in pairs if close)


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(columns) or "none"
