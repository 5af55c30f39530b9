"""A few real rows and their sums on the terminal: each row as it was read, as messages, and as tokens with the mask."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sft_runner.data.report.histogram import line
from sft_runner.data.report.numbers import percent, sentence
from sft_runner.data.report.reasons import REMEDIES, dropped
from sft_runner.data.report.sample import Sampled
from sft_runner.data.report.visible import cut, harmless, parts
from sft_runner.data.row import Example, Message

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

MOST = 600
"""Characters of a text that are shown; of longer ones the beginning and the end."""
_TRAINED, _LABEL, _WARNING = "bold green", "dim", "bold yellow"


def show(console: "Console", samples: Sequence[Sampled], report: Mapping[str, Any], most: int = MOST) -> None:
    """Print rows one after the other, and what the report says of all that were looked at.

    Trained tokens are green; without colours, and in a file, they stand between ⟦ and ⟧.
    """
    from rich.table import Table

    coloured = console.is_terminal and not console.no_color
    for sampled in samples:
        console.print(_title(sampled))
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style=_LABEL, no_wrap=True)
        grid.add_column(overflow="fold")
        for label, text in _stages(sampled, coloured, most):
            grid.add_row(label, text)
        console.print(grid)
        console.print()
    console.print(_text(_sums(report)))


def chosen(samples: Iterable[Sampled], rows: int) -> list[Sampled]:
    """At most so many samples: used ones before dropped ones, the sources in turn."""
    seen: Counter[tuple[bool, str]] = Counter()
    ranked = []
    for place, sampled in enumerate(samples):
        unused = sampled.encoded is None
        seen[unused, sampled.row.file] += 1
        ranked.append((unused, seen[unused, sampled.row.file], place, sampled))
    return [sampled for *_, sampled in sorted(ranked, key=lambda entry: entry[:3])[: max(rows, 0)]]


def _title(sampled: Sampled) -> "Text":
    pieces = [(harmless(sampled.row.source), "bold")]
    if sampled.example:
        pieces.append((f"  {sampled.example.format}", ""))
    if sampled.encoded:
        pieces.append((f"  {len(sampled.encoded.input_ids):,} tokens, {sampled.encoded.trained:,} trained", ""))
    if sampled.dropped:
        pieces.append((f"  dropped: {dropped(sampled.dropped).meaning}", _WARNING))
    return _text(pieces)


def _stages(sampled: Sampled, coloured: bool, most: int) -> Iterator[tuple[str, "Text"]]:
    """What a row was at each step, with its label."""
    values = json.dumps(sampled.row.values, ensure_ascii=False, default=str)
    yield "row", _text(_pieces(cut(values, most)))
    if sampled.example:
        for label, text in _turns(sampled.example):
            yield label, _text(_pieces(cut(text, most)))
    if sampled.spans:
        pieces: list[tuple[str, str]] = []
        for text, trained in sampled.spans:
            inside = _pieces(cut(text, most), sampled.special, _TRAINED if trained else "")
            pieces += inside if coloured or not trained else [("⟦", ""), *inside, ("⟧", "")]
        while pieces and pieces[-1][0] == "\n":  # its mark says it
            pieces.pop()
        yield "tokens", _text(pieces)


def _turns(example: Example) -> Iterator[tuple[str, str]]:
    """What an example says, with who says it."""
    if example.tools:
        yield "tools", ", ".join(str(tool.get("function", tool).get("name", "")) for tool in example.tools)
    for i, message in enumerate(example.messages):
        mute = " (not trained)" if i in example.untrained else ""
        yield str(message["role"]) + mute, _said(message)
    if example.text:
        yield "text", example.text
    if example.fill:
        yield "prefix", example.fill.prefix
        yield "middle", example.fill.middle
        yield "suffix", example.fill.suffix
    for message in example.rejected:
        yield "rejected", _said(message)


def _said(message: Message) -> str:
    thought = message.get("reasoning_content")
    calls = [
        f"{call['function']['name']}({json.dumps(call['function']['arguments'], ensure_ascii=False)})"
        for call in message.get("tool_calls") or ()
    ]
    thoughts = [f"(thinks: {thought})"] if thought else []
    return "\n".join([*thoughts, *filter(None, [message.get("content")]), *calls])


def _sums(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the report says, as pieces with their styles."""
    tokens, histogram = report["tokens"], report["tokens"].get("histogram")
    yield f"{sentence(report['rows'], chosen=False)}\n", "bold"
    for name, source in report["sources"].items():
        formats = ", ".join(f"{count:,} {format}" for format, count in source["formats"].items()) or "no row used"
        yield f"{harmless(name)}: {formats}\n", ""
    yield (
        f"{tokens['train']:,} tokens, {percent(tokens['share_trained'])} carry loss; "
        f"mean {tokens['mean']:,.1f}, longest {tokens['longest']:,} of at most {report['max_length']:,}\n",
        "",
    )
    if histogram and any(histogram["train"]):
        edges = histogram["edges"]
        yield f"rows by length: {edges[0]:,.0f} {line(histogram['train'])} {edges[-1]:,.0f} tokens\n", ""
    places = report.get("dropped_examples", {})
    for name, count in report["rows"]["dropped"].items():
        if count:
            reason = dropped(name)
            remedy = f"; {reason.remedy}" if reason.remedy else ""
            yield f"dropped {count:,} {name}: ", _WARNING
            yield f"{reason.meaning}{remedy}{_such_as(places.get(name))}\n", ""
    for warning in report["warnings"]:
        remedy = f"; {REMEDIES[warning['kind']]}" if warning["kind"] in REMEDIES else ""
        yield f"warning {warning['count']:,} {warning['kind']}: ", _WARNING
        yield f"{warning['text'].rstrip('.')}{remedy}{_such_as(warning['examples'])}\n", ""


def _such_as(places: Sequence[str] | None) -> str:
    return f" (such as {', '.join(map(harmless, places))})" if places else ""


def _pieces(text: str, special: Sequence[str] = (), style: str = "") -> list[tuple[str, str]]:
    """Text with what cannot be seen made visible, as pieces with their styles."""
    styles = {"text": style, "special": f"{style} underline", "mark": f"{style or 'cyan'} dim"}
    return [(part, styles[kind].strip()) for part, kind in parts(text, special)]


def _text(pieces: Iterable[tuple[str, str]]) -> "Text":
    from rich.text import Text

    return Text.assemble(*pieces, overflow="fold")
