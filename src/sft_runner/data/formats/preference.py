"""Two answers to one prompt, `chosen` and `rejected`: the chosen one is learned, the other kept for later stages.

Both are texts or messages behind a prompt (`prompt`, `conversations`, `messages`, or the question of alpaca or qa), or
whole conversations with the same beginning; these say more than a prompt beside them, which is then not read.
"""

from dataclasses import replace

from sft_runner.data.formats import alpaca, qa
from sft_runner.data.formats.conversation import Conversation
from sft_runner.data.row import Example, Message, Row

COLUMNS = (("chosen", "rejected"),)
QUESTIONS = {"instruction": alpaca.question, "question": qa.question}
PROMPTS = ("prompt", "conversations", "messages", *QUESTIONS)
OPTIONAL = (*PROMPTS, "input", "context", "system", "tools", "functions")


def example(row: Row, template: str) -> Example:
    """The chosen answer behind what both answers have in common."""
    chosen, rejected = (_conversation(row, column, template) for column in ("chosen", "rejected"))
    shared = _shared(chosen.messages, rejected.messages)
    if not any(message["role"] == "user" for message in chosen.messages[:shared]):
        raise row.error("chosen and rejected answer no common prompt", f"give one of {', '.join(PROMPTS)}")
    rejected.example("preference")  # its end is checked as the chosen one's is
    return replace(chosen.example("preference", shared), rejected=rejected.messages[shared:])


def _conversation(row: Row, column: str, template: str) -> Conversation:
    """One of the answers with what stands before it."""
    conversation = Conversation(row)
    prompt = next((name for name in PROMPTS if row.values.get(name) is not None), "")
    if prompt and not _is_whole(row, column):
        if prompt in QUESTIONS:
            conversation.add(prompt, {"role": "user", "content": QUESTIONS[prompt](row, template)})
        else:
            conversation.read(prompt, "user")
    conversation.read(column, "assistant")
    return conversation


def _is_whole(row: Row, column: str) -> bool:
    """Whether an answer brings its prompt along: a list of messages that does not begin with an assistant's."""
    value = row.values[column]
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and first.get("from", first.get("role")) in ("system", "developer", "user", "human")


def _shared(chosen: list[Message], rejected: list[Message]) -> int:
    """How many first messages both have; the last message of each is always its own."""
    most = min(len(chosen), len(rejected)) - 1
    return next((i for i in range(most) if chosen[i] != rejected[i]), most)
