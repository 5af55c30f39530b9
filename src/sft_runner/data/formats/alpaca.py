"""`{"instruction": ..., "input": ..., "output": ...}`, with `system` and `history` where there were earlier turns."""

from typing import Any

from sft_runner.data.formats.values import kind, optional_text, system, text
from sft_runner.data.row import Example, Message, Row

COLUMNS = (("instruction", "output"),)
OPTIONAL = ("input", "system", "history")
JOINTS = {"sage_alpaca": "\n\n### Input:\n"}
"""What stands between instruction and input, by `data.template`; a line break elsewhere."""


def example(row: Row, template: str) -> Example:
    """Instruction and input are one question."""
    messages = system(row)
    if history := row.values.get("history"):
        messages += _earlier(row, history)
    messages.append({"role": "user", "content": question(row, template)})
    messages.append({"role": "assistant", "content": text(row, "output", row.values["output"])})
    return Example(row, "alpaca", messages, completion=len(messages) - 1)


def question(row: Row, template: str) -> str:
    """Instruction and input in one."""
    instruction = text(row, "instruction", row.values["instruction"])
    if more := optional_text(row, "input"):
        return JOINTS.get(template, "\n").join((instruction, more)) if instruction else more
    return instruction


def _earlier(row: Row, history: Any) -> list[Message]:
    if not isinstance(history, list):
        raise row.error(f"history is {kind(history)}, not a list", "write [[question, answer], ...]")
    messages: list[Message] = []
    for i, pair in enumerate(history):
        if not isinstance(pair, list) or len(pair) != 2:
            raise row.error(f"history[{i}] is not a pair of question and answer", "write [[question, answer], ...]")
        messages.append({"role": "user", "content": text(row, f"history[{i}][0]", pair[0])})
        messages.append({"role": "assistant", "content": text(row, f"history[{i}][1]", pair[1])})
    return messages
