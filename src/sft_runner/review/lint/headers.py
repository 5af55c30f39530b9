"""Rules about the comment at the top of a recipe."""

import re
from collections.abc import Iterator

from sft_runner.review.lint.finding import NOTE, WARNING, Remark
from sft_runner.review.lint.rule import rule
from sft_runner.review.lint.subject import RECIPE, Subject

PARTS = ("goal", "hardware", "result", "command")
"""What a header says."""


@rule(WARNING, RECIPE)
def header(subject: Subject) -> Iterator[Remark]:
    """A recipe without a header, or whose header lacks its goal, hardware, result or command, or has two commands."""
    said = subject.file.header
    missing = [part for part in PARTS if part not in said]
    if missing:
        what = f"the header lacks {', '.join(missing)}" if len(missing) < len(PARTS) else "there is no header"
        yield Remark(1, what, "begin the file with " + ", ".join(f"'# {part}: ...'" for part in missing))
    first = subject.line_of_header("command")
    for number, line in enumerate(subject.lines[first:], first + 1):
        if line.strip() and line[:1] != "#":
            break  # the header ends
        if re.match(r"#\s*command\s*:", line):
            yield Remark(number, f"a second command: the one in line {first} counts", "keep one of them")


@rule(NOTE, RECIPE)
def no_preset(subject: Subject) -> Iterator[Remark]:
    """The command in the header names no hardware preset, so what it makes depends on the machine that looks."""
    words = subject.file.words
    if words and not any(word.startswith("hardware=") for word in words):
        message = "the command names no hardware preset: a review would be of the machine that looks"
        yield Remark(subject.line_of_header("command"), message, "add hardware=NAME, such as hardware=cpu")
