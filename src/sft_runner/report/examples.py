"""Ten held-out rows with the answers of both models beside each other: where it got worse, where better, where neither.

The choice follows from the rows alone, so the same scores show the same rows.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import islice
from pathlib import Path
from typing import Any

from sft_runner.data.report.visible import cut
from sft_runner.tracking.numbers import is_number

WANTED = {"worse": 4, "better": 3, "same": 3}
"""How many rows of each kind are shown, as far as there are so many; else more of the others."""
MOST_ROWS, MOST_BYTES = 20_000, 16_000_000
"""Rows that are looked through, and what they take in the file: a fraction of a second."""
LONGEST = 6_000
"""Characters of a text that are shown; its middle is left out."""
_MOST_COMPARED = 600
"""Words, spaces and signs of a text up to which its difference to the expected one is marked."""
_ALIKE = 0.3
"""Texts less alike than this are not marked: all of them would be."""
_WORDS = re.compile(r"\w+|\s+|[^\w\s]")

Pieces = list[tuple[str, bool]]
"""A text in pieces, each with whether it differs from the expected answer."""


@dataclass(frozen=True)
class Example:
    """One row."""

    kind: str
    """`worse`, `better` or `same`, as the headline metric or else the loss has it."""
    source: str
    """Where the row stands."""
    prompt: list[tuple[str, str]]
    """Turns: who speaks, and what is said; of a text without turns the one is empty."""
    expected: str
    """The row's own answer."""
    answers: dict[str, Pieces]
    """Of the base and the tuned model; empty where nothing was generated."""
    numbers: list[tuple[str, float | None, float | None]]
    """Name, base and tuned value of what was measured on the row."""


def choose(path: Path, headline: str) -> tuple[list[Example], dict[str, int]]:
    """The rows to show from a `predictions.jsonl`, the worse ones first, and how many of each kind there are among
    those that were looked through."""
    judged: list[tuple[float, float, int]] = []
    with open(path, "rb") as file:
        place = 0
        for line in islice(file, MOST_ROWS):
            judged.append((*_change(_row(line), headline), place))
            place += len(line)
            if place >= MOST_BYTES:
                break
    by_kind: dict[str, list[int]] = {kind: [] for kind in WANTED}
    for change, _, place in sorted(judged):  # the largest loss of quality first; then by the loss, then by place
        by_kind["worse" if change < 0 else "better" if change > 0 else "same"].append(place)
    by_kind["better"].reverse()
    by_kind["same"] = _spread(by_kind["same"])
    kinds = {place: kind for kind, places in by_kind.items() for place in places}
    chosen = [place for kind, most in WANTED.items() for place in by_kind[kind][:most]]
    spare = [place for kind in ("worse", "same", "better") for place in by_kind[kind][WANTED[kind] :]]
    chosen += spare[: sum(WANTED.values()) - len(chosen)]
    order = list(WANTED)
    chosen.sort(key=lambda place: (order.index(kinds[place]), by_kind[kinds[place]].index(place)))
    found = []
    with open(path, "rb") as file:
        for place in chosen:
            file.seek(place)
            found.append(_example(kinds[place], _row(file.readline())))
    return found, {kind: len(places) for kind, places in by_kind.items()}


def compared(text: str, expected: str) -> Pieces:
    """A text in pieces, those marked that are not in the expected one. Nothing is marked where little is alike."""
    words, wanted = _WORDS.findall(text.strip()), _WORDS.findall(expected.strip())
    if max(len(words), len(wanted)) > _MOST_COMPARED:
        return [(cut(text, LONGEST), False)]
    match = SequenceMatcher(None, wanted, words)  # frequent words begin no match, so that loops take no minutes
    if match.ratio() < _ALIKE:
        return [(cut(text, LONGEST), False)]
    found: Pieces = []
    for kind, _, _, start, end in match.get_opcodes():
        if piece := "".join(words[start:end]):
            found.append((piece, kind != "equal"))
    return found


def _row(line: bytes) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(line.decode("utf-8", "surrogatepass"))
    return found


def _change(row: Mapping[str, Any], headline: str) -> tuple[float, float]:
    """By how much the tuned model is better on a row: by the headline metric or by equality, and by the loss."""
    base, tuned = row.get("base") or {}, row.get("tuned") or {}
    by_loss = base["loss"] - tuned["loss"] if is_number(base.get("loss")) and is_number(tuned.get("loss")) else 0.0
    values = base.get(headline), tuned.get(headline)
    if headline != "loss" and is_number(values[0]) and is_number(values[1]):
        return values[1] - values[0], by_loss
    if "answer" not in base or "answer" not in tuned:
        return by_loss, by_loss
    right = [str(side["answer"]).strip() == str(row.get("expected", "")).strip() for side in (base, tuned)]
    return float(right[1] - right[0]), by_loss


def _spread(places: Sequence[int]) -> list[int]:
    """The same places, begun with some that lie evenly between the first and the last."""
    most = WANTED["same"]
    if len(places) <= most:
        return list(places)
    first = [places[round(number * (len(places) - 1) / (most - 1))] for number in range(most)]
    return [*first, *(place for place in places if place not in set(first))]


def _example(kind: str, row: Mapping[str, Any]) -> Example:
    sides = {side: row.get(side) or {} for side in ("base", "tuned")}
    expected = str(row.get("expected", ""))
    names = dict.fromkeys(name for side in sides.values() for name, value in side.items() if is_number(value))
    return Example(
        kind,
        str(row.get("source", "")),
        [(who, cut(text, LONGEST)) for who, text in _turns(row.get("prompt", ""))],
        cut(expected, LONGEST),
        {side: compared(str(found["answer"]), expected) for side, found in sides.items() if "answer" in found},
        [(str(name), sides["base"].get(name), sides["tuned"].get(name)) for name in names],
    )


def _turns(prompt: Any) -> Iterator[tuple[str, str]]:
    """Who says what; a turn's tool calls and parts that are no text are shown as they are stored."""
    if not isinstance(prompt, list):
        yield "", str(prompt)
        return
    for turn in prompt:
        turn = turn if isinstance(turn, Mapping) else {"content": turn}
        said = turn.get("content")
        more = {key: value for key, value in turn.items() if key not in ("role", "content", "train") and value}
        texts = [] if said is None else [said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)]
        texts += [json.dumps(more, ensure_ascii=False)] if more else []
        yield str(turn.get("role", "")), "\n".join(texts)
