"""Rows that the readers of documents and code make: a question with its answer, or code with a hole."""

from sft_runner.data.formats.values import text
from sft_runner.data.row import Example, Fill, Row

PAIR = ("prompt", "completion")
HOLE = ("prefix", "middle", "suffix")


def docs(row: Row, template: str) -> Example:
    """A section of a document under its question."""
    return _pair(row, "docs")


def python(row: Row, template: str) -> Example:
    """A real pair from a code base, or a hole to fill in; both kinds stand in one source."""
    if row.values.get("middle") is None:
        return _pair(row, "python")
    return Example(row, "python", fill=Fill(*(text(row, column, row.values[column]) for column in HOLE)))


def _pair(row: Row, name: str) -> Example:
    prompt, completion = (text(row, column, row.values[column]) for column in PAIR)
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
    return Example(row, name, messages, completion=1)
