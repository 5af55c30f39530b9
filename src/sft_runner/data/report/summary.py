"""The data report in short, as Markdown: the sums, what to look at, and one real row."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sft_runner.data.report.numbers import percent, sentence
from sft_runner.data.report.reasons import REMEDIES, dropped


def summary(report: Mapping[str, Any]) -> str:
    """The text of `preview.md`; tokens between ⟦ and ⟧ carry loss."""
    return "\n\n".join(_paragraphs(report)) + "\n"


def marked(spans: Sequence[Sequence[Any]]) -> str:
    """The text of (text, trained) pieces, the trained ones between ⟦ and ⟧."""
    return "".join(f"⟦{text}⟧" if trained else text for text, trained in spans)


def _paragraphs(report: Mapping[str, Any]) -> Iterator[str]:
    rows, tokens, packing = report["rows"], report["tokens"], report.get("packing")
    yield "# What is trained"
    yield sentence(rows) + "."
    facts = [
        f"{tokens['train']:,} tokens in an epoch, {percent(tokens['share_trained'])} of them carry loss.",
        f"A row has {tokens['mean']:,.1f} on average, the longest {tokens['longest']:,}.",
    ]
    if packing:
        facts.append(f"Packed, a step is {percent(packing['efficiency'])} full.")
    yield " ".join(facts)
    yield "\n".join(_table(report["sources"]))
    for warning in report["warnings"]:
        places = f", such as {', '.join(map(_code, warning['examples']))}" if warning["examples"] else ""
        remedy = f" To do: {REMEDIES[warning['kind']]}." if warning["kind"] in REMEDIES else ""
        yield f"**Warning**, {warning['count']:,} rows: {_plain(warning['text'].rstrip('.'))}{places}.{remedy}"
    places_of = report.get("dropped_examples", {})
    if any(rows["dropped"].values()):
        yield "\n".join(
            f"- {count:,} {name}: {dropped(name).meaning or 'dropped'}"
            + (f", such as {', '.join(map(_code, places_of[name]))}" if places_of.get(name) else "")
            for name, count in rows["dropped"].items()
            if count
        )
    for sample in report["samples"][:1]:
        text = marked(sample["spans"])
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
        yield f"## A row: {_plain(sample['source'])}"
        yield f"{sample['tokens']:,} tokens, of which the {sample['trained']:,} between ⟦ and ⟧ carry loss."
        yield f"{fence}text\n{text}\n{fence}"


def _table(sources: Mapping[str, Any]) -> Iterator[str]:
    yield "| source | formats | read | to learn from | held out | dropped |"
    yield "|---|---|--:|--:|--:|--:|"
    for name, source in sources.items():
        rows = source["rows"]
        numbers = (rows["read"] + rows["added"], rows["train"], rows["held_out"], sum(rows["dropped"].values()))
        cells = [_plain(name), ", ".join(source["formats"]), *(f"{number:,}" for number in numbers)]
        yield f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Text of the user's, so that it stays on its line and means nothing to Markdown."""
    return re.sub(r"([\\`*_|<\[\]])", r"\\\1", " ".join(str(text).split()))


def _code(text: str) -> str:
    return f"`{' '.join(str(text).split()).replace('`', chr(39))}`"
