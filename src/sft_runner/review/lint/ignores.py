"""`# lint: ignore RULE` at the end of a line, or on a line of its own above it: findings that are meant to be so."""

import re
from collections.abc import Collection, Iterator, Sequence

import yaml

from sft_runner.errors import suggestion
from sft_runner.review.lint.finding import WARNING, Finding, Remark
from sft_runner.review.lint.rule import rule
from sft_runner.review.lint.subject import CHOICE, MAIN, RECIPE, UNREAD, Subject

FORM = re.compile(r"(?:^|\s)#\s*lint:\s*ignore\b\s*(?P<names>[\w-]*(?:\s*,\s*[\w-]+)*)", re.IGNORECASE)
"""What stands behind the names is the reason."""
KINDS = (RECIPE, CHOICE, MAIN, UNREAD)
"""Files whose comments are YAML's."""


@rule(WARNING, *KINDS)
def unused_ignore(subject: Subject) -> Iterator[Remark]:
    """A `# lint: ignore` that silences nothing, or names a rule that does not exist."""
    yield from ()  # told by `unused`, which knows the findings of all other rules


def kept(subject: Subject, findings: Sequence[Finding], known: Collection[str]) -> list[Finding]:
    """The findings in a file that nothing silences, and one for each `ignore` that silences none."""
    silenced = _silenced(subject)
    used = {(finding.line, finding.rule) for finding in findings}
    left = [finding for finding in findings if (finding.line, finding.rule) not in silenced]
    at: dict[tuple[int, str], bool] = {}
    for place, comment in silenced.items():
        at[comment, place[1]] = at.get((comment, place[1]), False) or place in used
    for (line, name), needed in at.items():
        if not needed:
            text, hint = f"this silences no finding of '{name}'", "take it out"
            if name not in known:
                text = f"there is no rule '{name}'" if name else "this names no rule"
                hint = suggestion(name, sorted(known)) if name else "write # lint: ignore RULE"
            column = subject.lines[line - 1].lower().find("lint:") + 1
            left.append(Finding(subject.path, line, column, WARNING, unused_ignore.name, text, hint))
    return left


def _silenced(subject: Subject) -> dict[tuple[int, str], int]:
    """Line and rule -> the line of the comment that silences it there: its own line, and where nothing else stands on
    that the next ones, up to the first that is neither empty nor a comment."""
    found: dict[tuple[int, str], int] = {}
    for number, line in enumerate(subject.lines if subject.kind in KINDS else (), 1):
        if not (said := FORM.search(line)) or _in_value(subject.file.root, number, said.end()):
            continue
        last = number
        if not line[: said.start()].strip(" \t"):
            behind = enumerate(subject.lines[number:], number + 1)
            last = next((other for other, text in behind if text.strip() and text.lstrip()[:1] != "#"), number)
        for name in re.findall(r"[\w-]+", said["names"]) or [""]:
            found |= {(other, name): number for other in range(number, last + 1) if (other, name) not in found}
    return found


def _in_value(node: yaml.Node | None, line: int, column: int) -> bool:
    """Whether a place, line and column from 1, lies inside of a value: a `#` there begins no comment."""
    if not isinstance(node, yaml.CollectionNode):
        start, end = (node.start_mark, node.end_mark) if node else (None, None)
        return bool(start and end and (start.line, start.column) <= (line - 1, column - 1) < (end.line, end.column))
    for one in node.value:
        if any(_in_value(part, line, column) for part in (one if isinstance(one, tuple) else (one,))):
            return True
    return False
