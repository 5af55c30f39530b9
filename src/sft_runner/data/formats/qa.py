"""`{"question": ..., "answer": ...}`, with the `context` that the answer is found in."""

from sft_runner.data.formats.values import optional_text, system, text
from sft_runner.data.row import Example, Row

COLUMNS = (("question", "answer"),)
OPTIONAL = ("context", "system")


def example(row: Row, template: str) -> Example:
    """Context and question are one question."""
    messages = [
        *system(row),
        {"role": "user", "content": question(row, template)},
        {"role": "assistant", "content": text(row, "answer", row.values["answer"])},
    ]
    return Example(row, "qa", messages, completion=len(messages) - 1)


def question(row: Row, template: str) -> str:
    """The context stands before the question; SAGE's text template has it behind."""
    asked = text(row, "question", row.values["question"])
    if context := optional_text(row, "context"):
        return f"{asked}\n\n### Context:\n{context}" if template == "sage_qa" else f"{context}\n\n{asked}"
    return asked
