"""A comparison for the terminal, as wide as that is, and as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from sft_runner.data.report.visible import harmless
from sft_runner.report import scores
from sft_runner.report.comparison import Comparison, setting, shortened

LEAST_COLUMN = 9
"""Characters of a run's column."""
LONGEST_NAME, LONGEST_VALUE = 38, 28
"""Characters of a line's name and of a setting's value that are shown."""

LEGEND = "* the best; ≈ no difference to the best can be told on these rows"
MAIN = "loss"
"""Besides the headline metrics of the runs what is shown of parts of the rows; JSON and the page have all."""

Table = tuple[str, list[tuple[str, list[str]]]]
"""A title, and lines with a name and a cell for each run."""


def text(found: Comparison, width: int) -> str:
    """The comparison as aligned plain text of at most `width` columns, the runs in as many blocks as that takes."""
    lines = [f"{letter}  {harmless(run.label)}" for letter, run in zip(found.letters, found.runs, strict=True)]
    notes = [f"note: {harmless(note)}" for note in (*found.doubts, *found.same)]
    lines += ["", *notes, *([""] if notes else [])]
    tables = list(_tables(found))
    first = max((len(name) for _, rows in tables for name, _ in rows), default=0)
    sizes = [
        max(LEAST_COLUMN, *(len(cells[place]) for _, rows in tables for _, cells in rows), 1)
        for place in range(len(found.runs))
    ]
    for block in _blocks(sizes, width - first):
        head = "".join(f"  {found.letters[place]:>{sizes[place]}}" for place in block)
        lines.append(f"{'':<{first}}{head}".rstrip())
        for title, rows in tables:
            lines.append(title)
            for name, cells in rows:
                row = "".join(f"  {cells[place]:>{sizes[place]}}" for place in block)
                lines.append(f"{name:<{first}}{row}".rstrip())
        lines.append("")
    if any(mark for score in found.scores for mark in score.marks):
        lines.append(LEGEND)
    return "\n".join(lines).rstrip()


def as_json(found: Comparison) -> dict[str, Any]:
    """The same for programs."""
    return {
        "runs": [
            {
                "letter": letter,
                "run": run.label,
                "folder": str(run.folder),
                "state": run.state,
                "fit_to_serve": run.fit,
                "gates": list(run.gates),
                "headline": run.headline,
                "stages": dict(run.known.get("stages") or {}),
            }
            for letter, run in zip(found.letters, found.runs, strict=True)
        ],
        "settings": found.settings,
        "scores": [{"name": score.name, **asdict(score)} for score in found.scores],
        "facts": found.facts,
        "not_comparable": found.doubts,
        "same": found.same,
    }


def cell(score_metric: str, value: scores.Value | None, mark: str = "") -> str:
    """A score with its interval and its mark: `41.0 % [38.8, 43.2] *`."""
    if value is None:
        return "–"
    shown = scores.shown(score_metric, value.number)
    if value.low is not None and value.high is not None:
        ends = [scores.shown(score_metric, end).removesuffix(" %") for end in (value.low, value.high)]
        shown += f" [{ends[0]}, {ends[1]}]"
    return f"{shown} {mark or ' '}"


def difference(metric: str, value: scores.Value | None) -> str:
    """A difference with its interval: `+3.0 [+0.5, +5.5] points`."""
    if value is None:
        return ""
    ends = [scores.shown_gain(metric, end).removesuffix(" points") for end in (value.number, value.low, value.high)]
    return f"{ends[0]} [{ends[1]}, {ends[2]}]{' points' if scores.is_share(metric) else ''} "


def _tables(found: Comparison) -> Iterator[Table]:
    if found.settings:
        yield (
            "settings",
            [
                (f"  {harmless(key)}", [shortened(setting(value), LONGEST_VALUE) for value in values])
                for key, values in found.settings.items()
            ],
        )
    main = [score for score in found.scores if not score.part]
    wanted = {MAIN, *(run.headline for run in found.runs)}
    tasks = {str(task) for run in found.runs for task in (run.scores.get("tuned") or {}).get("benchmarks") or ()}
    parts = [score for score in found.scores if score.part in tasks or (score.part and score.metric in wanted)]
    for title, part in (("scores of the tuned model", main), ("scores of parts", parts)):
        rows = [
            (_name(one.metric, one.part), [cell(one.metric, *both) for both in zip(one.tuned, one.marks, strict=True)])
            for one in part
        ]
        if rows:
            yield title, rows
    beside = [
        (_name(one.metric), [difference(one.metric, value) for value in one.beside]) for one in main if any(one.beside)
    ]
    if beside:
        yield f"better than {found.letters[0]}, on the same rows", beside
    bases = [(_name(one.metric), [cell(one.metric, value) for value in one.base]) for one in main if any(one.base)]
    if bases:
        yield "scores of the base model", bases
    yield "what it took", [(_name(name), values) for name, values in found.facts.items()]


def _name(text: str, part: str = "") -> str:
    """The name of a line; where it is long, it is the part's name that is cut."""
    told, room = scores.words(harmless(text)), LONGEST_NAME - len(text) - 2
    where = harmless(part)
    return f"  {where if len(where) <= room else f'{where[: room - 1]}…'}: {told}" if part else f"  {told}"


def _blocks(sizes: Sequence[int], room: int) -> Iterator[list[int]]:
    """The columns, so many at once as there is room for, at least one."""
    number, used, places = 0, 0, []
    for place, size in enumerate(sizes):
        if used and used + size + 2 > room:
            number, used = number + 1, 0
        used += size + 2
        places.append((number, place))
    for _, block in groupby(places, key=lambda one: one[0]):
        yield [place for _, place in block]
