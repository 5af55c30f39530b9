"""One row of the user's data, where it stands, and what it says: the nouns that all of `data` speaks in."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sft_runner.errors import DataError

Message = dict[str, Any]
"""`{"role": "user", "content": "..."}` in OpenAI's words, as chat templates read it.

The roles are `system`, `user`, `assistant` and `tool`. An assistant's may have `reasoning_content` and `tool_calls`
(`[{"id": ..., "type": "function", "function": {"name": ..., "arguments": {...}}}]`, arguments as an object), a tool's
`tool_call_id` and `name`.
"""
Tool = dict[str, Any]
"""`{"type": "function", "function": {"name": ..., "description": ..., "parameters": {...}}}`"""


class Dropped(StrEnum):
    """Why a row is not used. Every row that is read is either used or counted under one of these."""

    MALFORMED = "malformed"  # it cannot be read, and `data.bad_rows=drop` says to go on
    EMPTY_ANSWER = "empty_answer"  # an assistant turn says nothing
    EMPTY_PROMPT = "empty_prompt"  # nothing is asked
    SUSPECT = "suspect"  # damaged text or an echo, and `data.suspect=drop` says to leave it out
    NOTHING_TRAINED = "nothing_trained"  # no token of it would carry loss
    SPECIAL_TOKEN = "special_token_in_text"  # the text contains a token that the template uses to mark turns
    JOINED = "joined_to_prompt"  # the answer's leading white space becomes one token with the end of the prompt
    NO_FILL_TOKENS = "no_fill_in_the_middle_tokens"  # a row to fill in, for a model without the tokens for it
    REFUSED = "refused_by_template"  # the chat template does not take it, and `data.bad_rows=drop` says to go on
    OVERLONG = "overlong"  # more tokens than `data.max_length`
    DUPLICATE = "duplicate"  # the same messages stood in an earlier row
    HELD_OUT_TWIN = "held_out_twin"  # its question is also held out, so it must not be learned
    CAPPED = "capped"  # behind the cap, or outside the weight, of its source


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was read."""

    values: dict[str, Any]
    """Column -> value."""
    file: str
    """The file's path below `data.path`, or its name."""
    number: int
    """Line of the file, row of a list, or page; all count from 1."""
    unit: str = "line"
    """What `number` counts: `line`, `row`, or `page` of a PDF."""
    group: str = ""
    """Rows of one group are held out together or not at all; open: rows with the same prompt are."""
    only_asked: bool = False
    """A wording that is never learned, only asked: always held out, whatever becomes of its group."""

    @property
    def source(self) -> str:
        """The place in short, such as `train.jsonl:7`."""
        return f"{self.file}:{self.number}"

    def error(self, problem: str, hint: str = "") -> DataError:
        """What is wrong with this row."""
        return error_at(self.file, self.unit, self.number, problem, hint)


@dataclass(frozen=True, slots=True)
class Fill:
    """Code with a hole: the model reads what stands before and behind it and writes what is missing."""

    prefix: str
    """Before the hole."""
    middle: str
    """What is learned."""
    suffix: str
    """Behind the hole."""


@dataclass(frozen=True, slots=True)
class Example:
    """A row as something to learn: a conversation, a plain text, or a hole to fill. Exactly one of the three is set."""

    row: Row
    """Where it came from."""
    format: str
    """The format that it was read by."""
    messages: list[Message] = field(default_factory=list)
    """The turns of a conversation in order; the last one is the assistant's."""
    tools: list[Tool] = field(default_factory=list)
    """The tools that the conversation may call."""
    untrained: frozenset[int] = frozenset()
    """Indices of assistant turns that carry no loss, because the row says so (`train: false`, `weight: 0`)."""
    completion: int = 0
    """Index of the first message that the row's format calls the answer; the last message where it has no such word."""
    text: str = ""
    """A plain text, all of which is learned."""
    fill: Fill | None = None
    """Code with a hole."""
    rejected: list[Message] = field(default_factory=list)
    """Preference data: the answer that was not chosen; kept for later stages, not learned."""


def error_at(file: str, unit: str, number: int, problem: str, hint: str = "") -> DataError:
    """What is wrong at a place in a file of `data.path`."""
    return DataError(f"data.path: {file}, {unit} {number}: {problem}", hint)
