"""A difference as Markdown for a comment on a pull request."""

import html
import re
from collections.abc import Iterator, Sequence

from sft_runner.review.diff.changes import Change, Difference
from sft_runner.review.diff.text import KINDS, errors, figures, groups, named, settings, stages, summary
from sft_runner.review.diff.values import ABSENT

MARK = "<!-- sft-runner diff -->"
"""First line, by which a workflow finds its comment again."""
LIMIT = 65_536
"""Characters that GitHub takes in a comment."""
OPEN = 12
"""Lines up to which a group is not folded."""
ROOM = 200
"""Characters kept for the line that tells of shortening."""


def markdown(found: Difference, limit: int = LIMIT) -> str:
    """The whole difference; where it is longer than `limit`, the groups that do not fit are counted."""
    head = [MARK, f"**{cell(summary(found))}**", "", f"{cell(found.told[0])} → {cell(found.told[1])}", ""]
    tail = [f"- {code(old)} is called {code(new)} and has the same values" for old, new in found.renamed]
    tail += [f"- {code(path)} differs, and no recipe uses it" for path in found.unused]
    tail += [f"- {code(case)} cannot run, before or after: {cell(why)}" for case, why in found.broken]
    tail += [f"- not known: {cell(told)}" for told in found.unknown]
    tail += [f"- {cell(note)}" for note in found.notes]
    blocks = ["\n".join(_block(group)) for group in groups(found.changes)]
    end = "\n".join(tail)
    if len(end) > limit // 4:
        end = f"{end[: limit // 4].rpartition(chr(10))[0]}\n- and more lines of this kind, left out here"
    told, room = "\n".join(head), limit - ROOM - len(end)
    for number, block in enumerate(blocks):
        if len(told) + len(block) + 2 > room:
            left = sum(len(group) for group in groups(found.changes)[number:])
            told += f"\n\nShortened: {left} more recipes change; `sft-runner diff` shows all.\n"
            break
        told += f"\n{block}\n"
    return f"{told}\n{end}\n" if end else told


def cell(text: str) -> str:
    """Text that stays text, in a table too."""
    escaped = re.sub(r"([\\`*_{}\[\]|#~@])", r"\\\1", " ".join(text.split()))
    return html.escape(escaped, quote=False)


def code(text: str) -> str:
    """Text in a fixed font; backticks and pipes stay what they are."""
    escaped = html.escape(re.sub(r"[\r\n]+", " ", text), quote=False).translate(_AS_NUMBERS)
    return f"<code>{escaped.replace('  ', '&nbsp; ')}</code>" if text else ""


def _block(group: Sequence[Change]) -> Iterator[str]:
    """One group of recipes: a title, a table of settings, stages, and the plan."""
    first = group[0]
    lines = list(_lines(group))
    kind = "" if first.kind == "changed" else f" ({KINDS[first.kind]})"
    title = f"{code(named(group)) if len(group) == 1 else html.escape(named(group))}{kind}"
    if len(lines) > OPEN or len(group) > OPEN:
        short = html.escape(f"{len(group)} recipes") if len(group) > OPEN else title
        yield f"<details><summary>{short}{kind if len(group) > OPEN else ''}</summary>"
        yield ""
        if len(group) > OPEN:
            yield from [cell(named(group)), ""]
        yield from lines
        yield from ["", "</details>"]
    else:
        yield f"#### {title}"
        yield ""
        yield from lines


def _lines(group: Sequence[Change]) -> Iterator[str]:
    first = group[0]
    for title, why in errors(first):
        yield f"- {title}: {cell(why)}"
    if any(first.errors):
        yield ""
    if first.values:
        yield from ["| key | old | new | set by |", "|---|---|---|---|"]
        for key, old, new, places in settings(group):
            yield f"| {code(key)} | {code(old)} | {code(new)} | {cell(places)} |"
        yield ""
    yield from (f"- {cell(line)}" for line in stages(first))
    numbers = figures(group)
    if numbers:
        yield from ["", "| plan | old | new |", "|---|---|---|"]
        for names, counted in numbers:
            for figure in counted:
                what = cell(f"{names}: {figure.name}" if names else figure.name)
                yield f"| {what} | {cell(figure.old or ABSENT)} | {cell(figure.new or ABSENT)} |"


_AS_NUMBERS = {ord(char): f"&#{ord(char)};" for char in "`|*_[]\\~@#"}
