"""From a row to something to learn: one module for each way to write a row, and how they are told apart.

A file has one format, set by `data.format` or found on its first row. A row of another shape is an error that names
the row; a row that is well-formed but holds nothing to learn is left to `reason_to_drop`.
"""

from sft_runner.data.formats.detection import choose, unknown_columns
from sft_runner.data.formats.emptiness import reason_to_drop
from sft_runner.data.formats.format import FORMATS, Format
from sft_runner.data.formats.suspicion import SUSPICIONS, suspicions

__all__ = ["FORMATS", "SUSPICIONS", "Format", "choose", "reason_to_drop", "suspicions", "unknown_columns"]
