"""The run's report in short, as Markdown fit for a comment on a pull request."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sft_runner.report import scores
from sft_runner.report.course import counted
from sft_runner.report.record import Record

MOST_ROWS = 3
"""Rows shown with both answers, one of each kind where there are."""
MOST_CHARACTERS = 400
"""Of a text in a row."""
SIGNS = {"better": "▲", "worse": "▼", "open": "≈", "": ""}


def markdown(record: Record, made: Mapping[str, Any]) -> str:
    """The same content as the page's, in short."""
    blocks = [
        block
        for part in (_top, _gates, _scores, _rows, _proofs, _course, _again)
        for block in _safe(part, record, made)
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _safe(part: Any, record: Record, made: Mapping[str, Any]) -> list[str]:
    """The blocks of one part; one that cannot be made is named."""
    try:
        return list(part(record, made))
    except Exception as error:  # a report must never fail for one of its parts
        return [f"*{part.__name__.strip('_')} could not be shown: {plain(f'{type(error).__name__}: {error}')}*"]


def _top(record: Record, made: Mapping[str, Any]) -> Iterator[str]:
    from sft_runner.report.page import subtitle

    yield f"# {plain(record.name)}"
    yield plain(subtitle(record))
    verdict = made["verdict"].values
    if verdict:
        yield f"**{plain(verdict.title)}.** {plain(verdict.text)}"
        if verdict.headline:
            yield "\n".join(f"- **{plain(number)}** {plain(what)}" for number, what, _ in verdict.headline)
    if record.error:
        yield fenced(record.error)


def _gates(record: Record, made: Mapping[str, Any]) -> Iterator[str]:
    if gates := made["gates"].values:
        yield "## Gates"
        rows = [
            (
                scores.words(g.name),
                g.limit,
                g.wanted,
                g.found,
                g.interval or "–",
                f"{'✓' if g.passed else '✗'} {g.margin}",
            )
            for g in gates
        ]
        yield table(("gate", "limit", "wanted", "found", "95 % interval", ""), rows, "ll---l")


def _scores(record: Record, made: Mapping[str, Any]) -> Iterator[str]:
    found = made["scores"].values
    if not found or not found["lines"]:
        yield "Nothing was scored."
        return
    yield "## Scores"
    drawn = [(own, {metric for metric, _ in pictures}) for _, own, pictures in found["parts"]]
    lines = [*found["lines"], *(line for own, metrics in drawn for line in own if line.metric in metrics)]
    head = ("metric", "base", "tuned", "gain", "95 % interval", "")
    yield table(head, [_line(line) for line in lines], "l----l")
    count = ", ".join(counted(number, what[:-1]) for what, number in found["rests_on"].items())
    yield f"{count}. A gain is positive where the tuned model is better; ≈ where its interval holds 0."


def _line(line: scores.Line) -> Sequence[str]:
    metric = line.metric
    part = f"{line.part}: " if line.part else ""
    return (
        part + scores.words(metric),
        *(scores.shown(metric, value.number if value else None) for value in (line.base, line.tuned)),
        scores.shown_gain(metric, line.gain.number if line.gain else None),
        scores.shown_interval(metric, line.gain),
        SIGNS[line.verdict],
    )


def _rows(record: Record, made: Mapping[str, Any]) -> Iterator[str]:
    """One row of each kind, folded away."""
    examples = made["examples"].values or {}
    found = examples.get("rows") or []
    first = {row.kind: row for row in reversed(found) if row.answers}
    shown = [first[kind] for kind in ("worse", "better", "same") if kind in first][:MOST_ROWS]
    if not shown:
        return
    told = ", ".join(f"{count:,} {kind}" for kind, count in examples["kinds"].items())
    yield f"<details><summary>Real rows, both answers: {told}</summary>"
    for row in shown:
        yield f"**{row.kind}**: {plain(row.source)}"
        prompt = "\n".join(text for _, text in row.prompt)
        answers = {side: "".join(piece for piece, _ in pieces) for side, pieces in row.answers.items()}
        texts = {"prompt": prompt, "expected": row.expected, **answers}
        yield fenced("\n".join(f"{name:<9}{_short(text)}" for name, text in texts.items()))
    yield "</details>"


def _proofs(record: Record, made: Mapping[str, Any]) -> Iterator[str]:
    found = made["proofs"].values
    if not found:
        return
    yield "## What proves it"
    yield "\n".join(
        [
            *(f"- {plain(one.name)}: {plain(one.result)}" for one in found["proofs"]),
            *(f"- {plain(one)}" for one in found["missing"]),
        ]
    )


def _course(record: Record, made: Mapping[str, Any]) -> Iterator[str]:
    stages = made["stages"].values
    if not stages:
        return
    yield "## The plan, and what happened"
    rows = [
        (s.name, f"{s.planned}: {s.why}" if s.why else s.planned, s.state, s.seconds or "–", s.fingerprint[:12])
        for s in stages
    ]
    yield table(("stage", "planned", "came to", "worked", "output"), rows, "lll-l")
    figures = made["figures"].values or []
    if figures:
        yield table(("", "the plan said", "measured"), [(name, p or "–", m or "–") for name, p, m in figures], "lll")
    for export in made["exports"].values or []:
        yield f"Exported {plain(export.form)}: {counted(len(export.files), 'file')}, {export.size}."


def _again(record: Record, made: Mapping[str, Any]) -> Iterator[str]:
    recipe, versions = made["recipe"].values, made["versions"].values
    yield "## To get it again"
    if recipe:
        yield fenced(recipe["command"], "bash")
    if versions:
        commit, _, changed = versions["commit"].partition(" ")
        facts = {
            "model": f"{versions['model']} {versions['commit_of_model'][:16]}".strip(),
            "data": versions["bytes_of_data"][:16],
            "commit": f"{commit[:12]} {changed}".strip(),
            "hardware": versions["hardware"],
        }
        main = ("sft_runner", "torch", "transformers", "trl", "peft")
        facts |= {name: versions["versions"][name] for name in main if name in versions["versions"]}
        yield ", ".join(f"{name} {plain(str(value))}" for name, value in facts.items() if value)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """A table; `align` has a letter for each column: `l`, or `-` for numbers."""
    lines = [head, ["---" if one == "l" else "--:" for one in align], *rows]
    return "\n".join(
        f"| {' | '.join(cells if number == 1 else map(plain, cells))} |" for number, cells in enumerate(lines)
    )


def plain(text: str) -> str:
    """Text that stays on its line, means nothing to Markdown, and calls nobody."""
    escaped = re.sub(r"([\\`*_|<>\[\]#~])", r"\\\1", " ".join(str(text).split()))
    return escaped.replace("@", "@\N{ZERO WIDTH SPACE}")


def fenced(text: str, language: str = "text") -> str:
    """Text as it is, in a fence that it cannot end."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def _short(text: str) -> str:
    one = " ".join(text.split())
    return one if len(one) <= MOST_CHARACTERS else f"{one[:MOST_CHARACTERS]} …"
