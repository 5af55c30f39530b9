"""From rows to token ids: convert, render, tokenize, fit, label.

An `Encoder` does a batch at a time, the same in this process and in a forked child.
"""

import hashlib
from collections.abc import Iterator, Sequence

from sft_runner.config.schema import Data
from sft_runner.data import formats, splitting
from sft_runner.data.batch import Batch, Used, as_json, record_batch
from sft_runner.data.length import Fitted, fitted
from sft_runner.data.row import Dropped, Example, Message, Row
from sft_runner.data.sources import Source, told_of
from sft_runner.data.template import ChatTemplate, Encoded
from sft_runner.errors import DataError

DRIFTED = "drifted_prompts"
"""Suspicion that only the template can have: see `Encoded.drifted`."""
BATCH = 500
"""Rows of one batch: enough to make its overhead small, few enough to keep memory flat."""


class Encoder:
    """Turns batches of rows into record batches; the same in this process and in a forked child."""

    def __init__(self, data: Data, template: ChatTemplate, sources: Sequence[Source]) -> None:
        self.data, self.template, self.sources = data, template, sources
        self.formats: dict[int, formats.Format] = {}

    def choose(self, source: int, first: Row) -> None:
        """Settle the format of a source by its first row."""
        with told_of(self.sources[source]):
            self.formats[source] = formats.choose(self.sources[source], first)

    def encode(self, source: int, rows: Sequence[Row]) -> Batch:
        """A batch of rows. Raises `DataError` for a row that cannot be used at all, the first one of them."""
        batch = Batch(source, read=len(rows))
        with told_of(self.sources[source]):
            used = list(self.used(batch, rows))
        batch.table = record_batch(source, used) if used else b""
        return batch

    def used(self, batch: Batch, rows: Sequence[Row]) -> Iterator[Used]:
        """The rows that are used, in order; the others are counted in `batch`."""
        examples = [example for row in rows if (example := self._example(batch, row)) is not None]
        for example, encoded in zip(examples, self._encoded(examples), strict=True):
            if isinstance(encoded, Dropped):
                batch.drop(example.row, encoded)
                continue
            batch.examples_used += 1
            batch.characters += _characters(example)
            parts = fitted(example, encoded, self.data, self.template)
            batch.added += len(parts) - 1
            rank = self._rank(batch.source, example)
            for number, part in enumerate(parts):
                if isinstance(part, Dropped):
                    batch.drop(example.row, part)
                else:
                    batch.used += 1
                    batch.truncated += part.truncated
                    if part.encoded.drifted:
                        batch.suspects[DRIFTED] += 1
                        batch.note(DRIFTED, example.row)
                    yield _written(example, part, number, rank)

    def _encoded(self, examples: Sequence[Example]) -> list[list[Encoded] | Dropped]:
        """The examples as ids; one that the template refuses is an error, or with `data.bad_rows=drop` dropped."""
        try:
            return self.template.encode(examples)
        except DataError:
            if self.data.bad_rows == "error":
                raise
        found: list[list[Encoded] | Dropped] = []
        for example in examples:
            try:
                found += self.template.encode([example])
            except DataError:
                found.append(Dropped.REFUSED)
        return found

    def _rank(self, source: int, example: Example) -> int:
        """The place of an example's group in the order of holding out; all parts of an example are of one group.

        Groups are a source's own; equal prompts belong together wherever they stand.
        """
        group = example.row.group
        group = f"{self.sources[source].key}\0{group}" if group else _prompt(example, example.messages)
        return splitting.rank(self.data.seed, group)

    def _example(self, batch: Batch, row: Row) -> Example | None:
        """A row as an example; None where it is dropped."""
        source = self.sources[batch.source]
        try:
            chosen = formats.choose(source, row) if self.data.mixed else self.formats[batch.source]
            example = chosen.example(row, self.data.template)
        except DataError:
            if self.data.bad_rows == "error":
                raise
            batch.drop(row, Dropped.MALFORMED)
            return None
        batch.formats[example.format] += 1
        reason = formats.reason_to_drop(example)
        if reason is None:
            for kind in formats.suspicions(example):
                batch.suspects[kind] += 1
                batch.note(kind, row)
                if self.data.suspect == "error":
                    raise row.error(formats.SUSPICIONS[kind], "mend the row, or set data.suspect to warn or drop")
                if self.data.suspect == "drop":
                    reason = Dropped.SUSPECT
        if reason is not None:
            batch.drop(row, reason)
            return None
        return example


def _written(example: Example, part: Fitted, number: int, rank: int) -> Used:
    """A row with its hashes: of what this part of the example says."""
    said_here = part.encoded.messages
    prompt = _prompt(example, said_here)
    if number and not said_here:  # windows of one text are no answers to one question
        prompt += f"\0{number}"
    messages = as_json(said_here)
    tools = as_json(example.tools) if example.tools else ""
    rejected = as_json(example.rejected) if example.rejected else ""
    said = messages + tools + rejected if example.messages else ",".join(map(str, part.encoded.input_ids))
    if example.untrained:  # the same turns with another mask are another row
        said += str(sorted(example.untrained))
    answer = str(said_here[-1].get("content")) if said_here else ""
    return Used(part.encoded, example, messages, tools, rejected, _hash(said), _hash(prompt), _hash(answer), rank)


def _prompt(example: Example, messages: Sequence[Message]) -> str:
    """What stands before the last of some messages, without regard to case and white space; of a plain text all."""
    if example.fill:
        asked = f"{example.fill.prefix}\0{example.fill.suffix}"
    elif not messages:
        asked = example.text
    elif len(messages) == 2 and not example.tools:
        asked = str(messages[0]["content"])
    else:
        asked = as_json([*messages[:-1], *example.tools])
    return " ".join(asked.split()).casefold()


def _characters(example: Example) -> int:
    fill = example.fill
    if fill:
        return len(fill.prefix) + len(fill.middle) + len(fill.suffix)
    return len(example.text) + sum(len(message.get("content") or "") for message in example.messages)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
