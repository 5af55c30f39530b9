"""The line `# result:` in a recipe's header, which says in a sentence what was measured."""

import re
from pathlib import Path

from sft_runner.disk import explained
from sft_runner.evaluation import gates
from sft_runner.report import scores
from sft_runner.report.course import seconds
from sft_runner.report.record import Record
from sft_runner.review.record.measured import machine, part
from sft_runner.review.record.table import results_of
from sft_runner.review.record.writing import keep

OPEN = "not measured yet"
"""What stands there before the first run."""
_LINE = re.compile(r"(?m)^#[ \t]*result:[^\r\n]*")


def line(record: Record, recipe: Path) -> str | None:
    """The line for a run: `# result:   exact match 0.0 % -> 75.0 % on 8 held-out rows, in 23 s on a CPU (...)`.

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
    model = str(part(record.config, "model").get("name") or "").replace("\n", " ")
    return f"# result:   {' '.join(said)}{took} ({model}, {machine(record)}; {results_of(recipe).name})"


def is_open(recipe: Path) -> bool:
    """Whether a recipe's header says that nothing was measured, or nothing of a result."""
    found = _LINE.search(_top(_text(recipe)))
    return found is None or OPEN in found[0] or not found[0].partition(":")[2].strip()


def write(recipe: Path, line: str) -> bool:
    """Put the line into a recipe's header, in place of the one there or below the header; returns whether it is
    another file than before. Not a byte else is changed."""
    text = _text(recipe)
    top = _top(text)
    if found := _LINE.search(top):
        new = text[: found.start()] + line + text[found.end() :]
    else:
        end = "\r\n" if "\r\n" in text else "\n"
        new = f"{top}{line}{end}{text[len(top) :]}"
    if new == text:
        return False
    with explained(recipe):
        keep(recipe, new.encode())
    return True


def _text(recipe: Path) -> str:
    return recipe.read_bytes().decode("utf-8")


def _top(text: str) -> str:
    """The comment at the top of a recipe, with a byte order mark where there is one."""
    found = re.match(r"\ufeff?(#[^\n]*(\n|$))*", text)
    return found[0] if found else ""
