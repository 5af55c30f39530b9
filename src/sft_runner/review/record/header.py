"""The line `# result:` in a recipe's header, which says in a sentence what was measured."""

import re
from pathlib import Path

from sft_runner.disk import replace
from sft_runner.evaluation import gates
from sft_runner.report import scores
from sft_runner.report.course import seconds
from sft_runner.report.record import Record
from sft_runner.review.record.measured import machine, model_name
from sft_runner.review.record.table import results_of

OPEN = "not measured yet"
"""What stands there before the first run."""
_LINE = re.compile(r"(?m)(?P<key>(?:^|(?<=\ufeff))#[ \t]*result:[ \t]*)(?P<said>[^\r\n]*)")
_NEXT = re.compile(r"\r?\n(?P<before>#[ \t]*)(?!\w+:)[^\s][^\r\n]*")
"""A line of comment that begins with no key of its own."""
_BLOCK = re.compile(r"(?m)(?:(?:^|(?<=\ufeff))#.*(?:\n|\Z))+")
"""Lines of comment up to an empty one."""
_OTHERS = re.compile(r"(?m)^#[ \t]*(goal|hardware|command):")
"""What a header says besides its result."""
_KEY = re.compile(r"(?m)^#[ \t]*\w+:")
"""A line of comment with a key, such as `# goal:`."""


def line(record: Record, recipe: Path) -> str | None:
    """The line for a run, such as `# result:   exact match 0 % -> 75.0 % on 8 held-out rows, 11.4 s of training` with
    model, machine and the file of results behind it in brackets.

    None for a run that missed a gate: a header must not tell it as a result.
    """
    if record.fit is False or gates.failed(gates.read({"gates": record.gates})):
        return None
    lines = scores.overall(record.scores, record.headline)
    if not lines or lines[0].tuned is None:
        return None
    one = lines[0]
    base = f"{scores.shown(one.metric, one.base.number)} -> " if one.base else ""
    said = [f"{scores.words(one.metric)} {base}{scores.shown(one.metric, lines[0].tuned.number)}"]
    if rows := scores.rests_on(record.scores).get("rows"):
        said.append(f"on {rows:,} held-out row{'' if rows == 1 else 's'}")
    took = f", {seconds(train)} of training" if (train := record.metrics("train").get("seconds")) else ""
    return f"# result:   {' '.join(said)}{took} ({model_name(record)}, {machine(record)}; {results_of(recipe).name})"


def is_open(recipe: Path) -> bool:
    """Whether a recipe's header says that nothing was measured, or nothing of a result."""
    text = _text(recipe)
    found = _found(text)
    said = text[slice(*found)].partition(":")[2] if found else ""
    return OPEN in said or not said.strip("# \t\r\n")


def write(recipe: Path, line: str) -> bool:
    """Put the line into a recipe's header, in place of the one there or below its other lines; returns whether it is
    another file than before. Not a byte else is changed. Raises `MachineError` where it cannot be written."""
    text = _text(recipe)
    top = _top(text)
    if found := _found(text):
        return replace(recipe, f"{text[: found[0]]}{line}{text[found[1] :]}".encode())
    end = "\r\n" if "\r\n" in text else "\n"
    own = _own(top)
    at = own[0].end() if own else len(top) - len(top.removeprefix("\ufeff"))
    gap = end if at and text[at - 1] not in "\ufeff\n" else ""  # the last line has no end
    return replace(recipe, f"{text[:at]}{gap}{line}{end}{text[at:]}".encode())


def _own(top: str) -> list[re.Match[str]]:
    """The blocks of comment that are the header's."""
    blocks = [*_BLOCK.finditer(top)]
    return next((own for key in (_OTHERS, _KEY) if (own := [one for one in blocks if key.search(one[0])])), blocks[:1])


def _found(text: str) -> tuple[int, int] | None:
    """Where the line begins and ends in the header's own block, with the lines that go on with it: their text stands
    below its text, or further in; of an empty one it may say that nothing was measured. A person's notes behind it do
    not."""
    top = _top(text)
    for block in _own(top):
        if line := _LINE.search(top, block.start(), block.end()):
            column = _width(line["key"]) if line["said"] else _width(line["key"].rstrip()) + 1
            end = line.end()
            while more := _NEXT.match(top, end, block.end()):
                is_open = not line["said"] and more[0].lstrip("#\r\n \t").startswith(OPEN)
                if not is_open and _width(more["before"]) < column:
                    break
                end = more.end()
            return line.start(), end
    return None


def _width(text: str) -> int:
    return len(text.expandtabs())


def _text(recipe: Path) -> str:
    return recipe.read_bytes().decode("utf-8")


def _top(text: str) -> str:
    """The lines above the first key of a recipe: comments and empty ones, with a byte order mark where there is one."""
    found = re.match(r"\ufeff?((#.*|[ \t\r]*)\n)*(#.*\Z)?", text)
    return found[0] if found else ""
