"""`{"text": ...}`: nothing is asked, all of it is learned."""

from sft_runner.data.formats.values import text
from sft_runner.data.row import Example, Row

COLUMNS = (("text",),)
OPTIONAL = ()


def example(row: Row, template: str) -> Example:
    """The text as it is."""
    return Example(row, "text", text=text(row, "text", row.values["text"]))
