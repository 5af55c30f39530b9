"""From the user's files to token ids: read, convert, apply the chat template, choose, account for all.

Every row that is read is trained on, held out, or counted under the reason why not; `report.json` adds up.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config, Data
from sft_runner.data import account, columns, encoding, files, pool, prepared, sampling, selection
from sft_runner.data.account import Account
from sft_runner.data.report import page, summary
from sft_runner.data.sources import Source, sources_of
from sft_runner.data.template import ChatTemplate
from sft_runner.disk import explained, write_json
from sft_runner.errors import DataError
from sft_runner.model.files import require
from sft_runner.stages.stage import Dataset, Report, Result


class Prepare:
    """`train.arrow` and `held_out.arrow`; the report as JSON and as a page."""

    name = "prepare"
    version = 2
    reads: tuple[str, ...] = ("data",)
    inputs: tuple[str, ...] = ()
    model = "tokenizer"
    data = "data"
    gpu = False
    keeps: tuple[str, ...] = ()

    def execute(self, config: Config, inputs: Mapping[str, Path], folder: Path, report: Report) -> Result:
        """Encode all rows into one file, choose between them, and write what train and evaluate read."""
        data, began = config.data, time.perf_counter()
        sources = sources_of(data)
        template = ChatTemplate(require(config.model), data)
        counted = Account(sources)
        rows = folder / "rows.arrow"
        pool.encode_all(encoding.Encoder(data, template, sources), rows, counted, _teller(data, sources, report))
        chosen = selection.choose(columns.read(rows), sources, data, counted)
        if not chosen.train.any():
            raise _nothing_left(data, counted)
        report(message="writing")
        prepared.write(chosen, sources, folder)
        rows.unlink()
        if template.changed:
            (folder / "chat_template.jinja").write_text(template.text, encoding="utf-8")
        found = {
            **counted.report(),
            **chosen.report(data),
            "samples": sampling.samples(folder / prepared.TRAIN, template.tokenizer),
            "template": {
                "name": data.template,
                "kwargs": data.chat_template_kwargs,
                "train_on": data.train_on,
                "reasoning": data.reasoning,
            },
            "max_length": data.max_length,
            "overlong": data.overlong,
            "seconds": round(time.perf_counter() - began, 3),
        }
        with explained(folder):
            write_json(folder / "report.json", found)
            (folder / "report.html").write_text(page.page(found), encoding="utf-8")
            (folder / "preview.md").write_text(summary.summary(found), encoding="utf-8")
        return Result(
            account.metrics(found),
            _lineage(data, sources, found["rows"]),
            notes=[_note(warning) for warning in found["warnings"]],
            artifacts=["report.json", "report.html", "preview.md"],
        )


def _teller(data: Data, sources: list[Source], report: Report) -> Callable[[int], None]:
    """Reports how many rows have been read, of how many where that is quick to tell."""
    counts = [files.count_rows(source, data) for source in sources]
    total = sum(filter(None, counts)) if all(counts) else 0
    return lambda read: report(step=read, steps=max(total, read))


def _note(warning: Mapping[str, Any]) -> str:
    place = "".join(f", such as {place}" for place in warning["examples"][:1])
    return f"{warning['count']:,} rows{place}: {warning['text']}"


def _lineage(data: Data, sources: list[Source], rows: dict[str, Any]) -> list[Dataset]:
    """The data, once for each use that is made of it."""
    name = ", ".join(source.name for source in sources)
    place = ", ".join(source.path for source in sources)
    digest = files.content_hash(data)[:32]
    uses = (("training", rows["train"]), ("evaluation", rows["held_out"]))
    return [Dataset(name, place, digest, count, context) for context, count in uses if count]


def _nothing_left(data: Data, counted: Account) -> DataError:
    rows = counted.total()
    reasons = ", ".join(f"{count} {reason}" for reason, count in rows["dropped"].items())
    places = [place for places in counted.examples.values() for place in places]
    hint = f"such as {', '.join(places[:5])}" if places else "hold out fewer rows with data.held_out"
    return DataError(f"data.path: none of {rows['read']} rows can be learned from: {reasons}", hint)
