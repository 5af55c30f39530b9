"""Whole conversations: `conversations` (ShareGPT) and `messages` (OpenAI); either may use the other's words."""

from sft_runner.data.formats.conversation import Conversation
from sft_runner.data.row import Example, Row

CONVERSATIONS = (("conversations",),)
MESSAGES = (("messages",),)
OPTIONAL = ("system", "tools", "functions")


def conversations(row: Row, template: str) -> Example:
    """`{"conversations": [{"from": "human", "value": ...}, {"from": "gpt", "value": ...}]}`"""
    return _example(row, "conversations")


def messages(row: Row, template: str) -> Example:
    """`{"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]}`"""
    return _example(row, "messages")


def _example(row: Row, column: str) -> Example:
    conversation = Conversation(row)
    conversation.read(column)
    return conversation.example(column)
