"""One row of the user's data and where it stands, so that every complaint about it can name the place."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sft_runner.errors import DataError

Message = dict[str, str]
"""`{"role": "user", "content": "..."}`; the roles are `system`, `user` and `assistant`."""


class Dropped(StrEnum):
    """Why a row is not used. Every row that is read is either used or counted under one of these."""

    EMPTY_ANSWER = "empty_answer"  # an assistant turn says nothing
    EMPTY_PROMPT = "empty_prompt"  # nothing is asked
    ENDS_WITH_USER = "ends_with_user"  # the last turn of a conversation is not an answer
    DUPLICATE = "duplicate"  # the same messages stood in an earlier row
    SPECIAL_TOKEN = "special_token_in_text"  # the text contains a token that the template uses to mark turns
    JOINED = "joined_to_prompt"  # the answer's leading white space becomes one token with the end of the prompt
    OVERLONG = "overlong"  # more tokens than `data.max_length`


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was read."""

    values: dict[str, Any]
    """Column -> value."""
    file: str
    """The file's path below `data.path`, or its name."""
    number: int
    """Line of the file, or of a JSON list the row; both count from 1."""
    unit: str = "line"
    """What `number` counts: `line` or `row`."""
    group: str = ""
    """Rows of one group are held out together or not at all; open: rows with the same prompt are."""

    @property
    def source(self) -> str:
        """The place in short, such as `train.jsonl:7`."""
        return f"{self.file}:{self.number}"

    def error(self, problem: str, hint: str = "") -> DataError:
        """What is wrong with this row."""
        return error_at(self.file, self.unit, self.number, problem, hint)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A row as chat messages; the last one is the assistant's."""

    row: Row
    """Where it came from."""
    messages: list[Message]
    """Its turns in order."""


def error_at(file: str, unit: str, number: int, problem: str, hint: str = "") -> DataError:
    """What is wrong at a place in a file of `data.path`."""
    return DataError(f"data.path: {file}, {unit} {number}: {problem}", hint)
