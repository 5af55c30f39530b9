"""A few rows, followed all the way from the file to the tokens: for the report, and for a look before anything runs."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import sft_runner.data.report.sample as shown
from sft_runner.config.schema import Config
from sft_runner.data import account, encoding, files
from sft_runner.data.account import Account
from sft_runner.data.batch import Batch, Used
from sft_runner.data.report.sample import Sampled
from sft_runner.data.row import Row
from sft_runner.data.sources import sources_of
from sft_runner.data.template import IGNORED, ChatTemplate
from sft_runner.model.files import require

SHOWN = 8
"""Rows that the report shows."""
MOST_TOKENS = 1500
"""Longer rows are not shown; the page would grow without telling more."""


def sample(config: Config, rows: int) -> tuple[list[Sampled], dict[str, Any]]:
    """The first rows of each source with what becomes of each, and a report on them. Loads no weights.

    Choices between rows, such as duplicates and held-out rows, are not made.
    """
    import numpy as np

    data = config.data
    template = ChatTemplate(require(config.model), data)
    sources = sources_of(data)
    encoder, counted = encoding.Encoder(data, template, sources), Account(sources)
    found: list[Sampled] = []
    for index, source in enumerate(sources):
        met = counted.sources[index]
        first = files.first_row(source, data, Counter())
        read = list(islice(files.read(source, data, met.besides, places=met.places), rows))
        if first is None:
            raise files.no_rows(source, met.besides)
        encoder.choose(index, first)
        for row in read:
            batch = Batch(index, read=1)
            used = list(encoder.used(batch, [row]))
            counted.add(batch)
            found += [_sampled(template.tokenizer, row, one) for one in used]
            found += [Sampled(row, dropped=reason) for reason in batch.dropped.elements()]
        counted.sources[index].train = counted.sources[index].used
    counted.close()
    lengths = np.array([len(one.encoded.input_ids) for one in found if one.encoded])
    trained = np.array([one.encoded.trained for one in found if one.encoded])
    tokens = account.lengths(lengths, trained, lengths[:0], data.max_length)
    return found, {**counted.report(), "tokens": tokens, "max_length": data.max_length, "overlong": data.overlong}


def samples(train: Path, tokenizer: Any) -> list[dict[str, Any]]:
    """Rows spread over `train.arrow`, as the model reads them: the first one and some of those behind it."""
    import datasets  # type: ignore[import-untyped]

    rows = datasets.Dataset.from_file(str(train))
    places = sorted({round(i * (len(rows) - 1) / (2 * SHOWN - 1)) for i in range(2 * SHOWN)})
    return list(islice(_short(rows, places, tokenizer), SHOWN))


def _short(rows: Any, places: list[int], tokenizer: Any) -> Iterator[dict[str, Any]]:
    for place in places:
        row = rows[place]
        ids, labels = row["input_ids"], row["labels"]
        if len(ids) <= MOST_TOKENS or place == 0:
            ids, labels = ids[:MOST_TOKENS], labels[:MOST_TOKENS]
            trained = len(labels) - labels.count(IGNORED)
            yield {
                "source": row["source"],
                "tokens": len(row["input_ids"]),
                "trained": trained,
                "spans": shown.spans(tokenizer, ids, labels),
                "special": shown.special(tokenizer, ids),
            }


def _sampled(tokenizer: Any, row: Row, used: Used) -> Sampled:
    ids, labels = used.encoded.input_ids, used.encoded.labels
    spans, special = shown.spans(tokenizer, ids, labels), shown.special(tokenizer, ids)
    return Sampled(row, used.example, used.encoded, spans=spans, special=special)
