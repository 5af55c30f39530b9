"""`{"prompt": ..., "completion": ...}`, each a text or a list of messages, as TRL reads it."""

from sft_runner.data.formats.conversation import Conversation
from sft_runner.data.row import Example, Row

COLUMNS = (("prompt", "completion"),)
OPTIONAL = ("system", "tools", "functions")


def example(row: Row, template: str) -> Example:
    """The completion may be several turns."""
    conversation = Conversation(row)
    conversation.read("prompt", "user")
    completion = len(conversation.messages)
    conversation.read("completion", "assistant")
    return conversation.example("prompt_completion", completion)
