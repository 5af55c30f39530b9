"""The turns of one row, put together into a conversation that can be learned."""

from sft_runner.data.formats import turn
from sft_runner.data.formats.calls import Calls
from sft_runner.data.formats.tools import tools
from sft_runner.data.formats.values import listed, system, text
from sft_runner.data.row import Example, Message, Row

MESSAGE = '{"role": ..., "content": ...}'
MEDIA = ("image", "images", "audio", "audios", "video", "videos")
"""Columns that the turns speak about and a text model never sees."""


class Conversation:
    """Grows turn by turn, beginning with the column `system`. Errors are `DataError`s that name row and turn."""

    def __init__(self, row: Row) -> None:
        self.row, self.calls = row, Calls(row)
        self.messages: list[Message] = []
        self.untrained: set[int] = set()
        for column in MEDIA:
            if row.values.get(column):
                raise row.error(f"the column {column} is not read", "only text can be learned; leave the row out")
        self.messages += system(row)

    def read(self, column: str, role: str = "") -> None:
        """Add the turns of a column. Where `role` is given, it may also hold one message, or the text of one."""
        value = self.row.values[column]
        if role and isinstance(value, dict):
            self._take(column, value)
        elif role and not isinstance(value, list):
            self.add(column, {"role": role, "content": text(self.row, column, value)})
        else:
            first = len(self.messages)
            for i, written in enumerate(listed(self.row, column, value, "messages", MESSAGE)):
                self._take(f"{column}[{i}]", written, joins=len(self.messages) > first)

    def add(self, place: str, message: Message) -> None:
        """Add one message; a second answer, or another system text, right behind the first is an error."""
        before = self.messages[-1] if self.messages else {}
        if message["role"] == before.get("role") == "assistant":
            raise self.row.error(f"{place} is a second assistant turn in a row", "join the two, or split the row")
        if message["role"] == before.get("role") == "system":
            if message != before:
                raise self.row.error(f"{place} is a second system text", "keep one of them, or join the two")
            return
        if made := message.get("tool_calls"):
            self.calls.wait_for(made)
        self.messages.append(message)

    def example(self, format: str, completion: int | None = None) -> Example:
        """All of it as something to learn. `completion` is an index of messages, the last one where it is left open."""
        last = self.messages[-1]["role"] if self.messages else "nothing"
        if last != "assistant":
            raise self.row.error(
                f"the conversation ends with {last}, not with an assistant turn",
                "complete the row; data.bad_rows=drop leaves such rows out and counts them",
            )
        answer = len(self.messages) - 1 if completion is None else completion
        return Example(self.row, format, self.messages, tools(self.row), frozenset(self.untrained), answer)

    def _take(self, place: str, written: object, joins: bool = False) -> None:
        """Add a turn as the user wrote it; calls join what the assistant said just before, if that may be."""
        taken = turn.read(self.row, place, written, self.calls)
        message = taken.message
        if taken.only_calls and joins and self.messages[-1]["role"] == "assistant":
            said = self.messages.pop()
            message = {**said, "tool_calls": [*said.get("tool_calls", ()), *message["tool_calls"]]}
        if message["role"] == "assistant" and not taken.trained:
            self.untrained.add(len(self.messages))
        self.add(place, message)
