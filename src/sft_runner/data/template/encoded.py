"""What the trainer sees of an example."""

from dataclasses import dataclass

from sft_runner.data.row import Message

IGNORED = -100
"""The label of a token that carries no loss, as everywhere in transformers."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A conversation, a plain text, or code with its hole filled, as ids and labels."""

    input_ids: list[int]
    """Token ids of all of it."""
    labels: list[int]
    """The ids of the trained tokens, `IGNORED` elsewhere."""
    prompt_length: int
    """How many ids stand before the last answer; 0 for plain text."""
    trained: int
    """How many labels are not `IGNORED`."""
    messages: list[Message]
    """What these ids say; empty for plain text and code."""
    ends: list[tuple[int, int]]
    """Behind each whole answer the number of messages and of ids up to there: where a row may be cut."""
    drifted: bool = False
    """Whether an earlier trained answer stands behind another prompt than a server would send."""
