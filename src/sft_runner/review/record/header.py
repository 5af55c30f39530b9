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
_LINE = re.compile(r"(?m)^#[ \t]*result:[^\r\n]*(\r?\n#(?![ \t]*\w+:)[ \t]{2,}[^\r\n]*)*")
"""The line, with those that go on with it: they are indented, and begin with no key of their own."""
_KEYS = re.compile(r"(?m)^#[ \t]*\w+:(.*\n(?=#))*.*(\n|\Z)")
"""The lines of comment from the first one with a key, such as `# goal:`, to an empty one."""


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
    found = _LINE.search(_top(_text(recipe)))
    return found is None or OPEN in found[0] or not found[0].partition(":")[2].strip()


def write(recipe: Path, line: str) -> bool:
    """Put the line into a recipe's header, in place of the one there or below its other lines; returns whether it is
    another file than before. Not a byte else is changed. Raises `MachineError` where it cannot be written."""
    text = _text(recipe)
    top = _top(text)
    if found := _LINE.search(top):
        return replace(recipe, f"{text[: found.start()]}{line}{text[found.end() :]}".encode())
    end = "\r\n" if "\r\n" in text else "\n"
    block = _KEYS.search(top) or re.match(r"\ufeff?(#.*(\n|\Z))*", top)
    at = block.end() if block else 0
    gap = end if at and text[at - 1] not in "\ufeff\n" else ""  # the last line has no end
    return replace(recipe, f"{text[:at]}{gap}{line}{end}{text[at:]}".encode())


def _text(recipe: Path) -> str:
    return recipe.read_bytes().decode("utf-8")


def _top(text: str) -> str:
    """The lines above the first key of a recipe: comments and empty ones, with a byte order mark where there is one."""
    found = re.match(r"\ufeff?((#.*|[ \t\r]*)\n)*(#.*\Z)?", text)
    return found[0] if found else ""
