"""From the user's files to token ids: read, convert, apply the chat template, hold some rows out, account for all.

Every row that is read is trained on, held out, or counted under the reason why not; `report.json` adds up.
"""

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config, Data
from sft_runner.data import files, formats, splitting
from sft_runner.data.row import Conversation, Dropped, Row
from sft_runner.data.template import IGNORED, ChatTemplate, Encoded
from sft_runner.disk import write_json
from sft_runner.errors import DataError
from sft_runner.model.files import require
from sft_runner.stages.stage import Dataset, Report, Result

BATCH = 1000
"""Rows rendered and tokenized at once: enough to keep all cores busy, few enough to keep memory flat."""
EXAMPLES = 3
"""Dropped rows that the report names for each reason."""


class Prepare:
    """Rows with token ids and labels, split into `train` and `held_out`."""

    name = "prepare"
    version = 1
    reads: tuple[str, ...] = ("data",)
    inputs: tuple[str, ...] = ()
    model = "tokenizer"
    data = True
    gpu = False
    keeps: tuple[str, ...] = ()

    def execute(self, config: Config, inputs: Mapping[str, Path], folder: Path, report: Report) -> Result:
        """Write `train/`, `held_out/`, `report.json` and `preview.md`."""
        data = config.data
        template = ChatTemplate(require(config.model))
        rows = folder / "rows.arrow"
        account = _encode_all(data, template, rows, report)
        if not account.ranks:
            raise _nothing_left(data, account)
        chosen = splitting.held_out(account.ranks, data.held_out)
        _save(rows, folder, chosen)
        rows.unlink()
        metrics = account.metrics(chosen)
        write_json(folder / "report.json", metrics | {"format": account.format, **account.details()})
        (folder / "preview.md").write_text(_preview(folder / "train", template), encoding="utf-8")
        return Result(metrics, _lineage(data, metrics["rows"]), ["report.json", "preview.md"])


@dataclass
class _Account:
    """What became of the rows that were read. Rows that are used are numbered in their order."""

    format: str = ""
    """The rows' format."""
    read: int = 0
    """Rows read so far."""
    dropped: Counter[Dropped] = field(default_factory=Counter)
    """Rows not used, by reason."""
    examples: dict[Dropped, list[str]] = field(default_factory=dict)
    """Sources of the first rows dropped for a reason."""
    besides: Counter[str] = field(default_factory=Counter)
    """What was read but is no row, such as blank lines."""
    ranks: "array[int]" = field(default_factory=lambda: array("Q"))
    """Each used row's rank for the choice of held-out rows."""
    lengths: "array[int]" = field(default_factory=lambda: array("L"))
    """Each used row's tokens."""
    trained: "array[int]" = field(default_factory=lambda: array("L"))
    """Each used row's tokens that carry loss."""

    def drop(self, row: Row, reason: Dropped) -> None:
        """Count a row that is not used."""
        self.dropped[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < EXAMPLES:
            examples.append(row.source)

    def metrics(self, held_out: set[int]) -> dict[str, Any]:
        """The numbers of the manifest; rows add up."""
        used = len(self.ranks)
        train = [i for i in range(used) if i not in held_out]
        tokens = sum(self.lengths[i] for i in train)
        assert self.read == used + self.dropped.total(), "a row was lost without being counted"
        return {
            "rows": {
                "read": self.read,
                "train": len(train),
                "held_out": len(held_out),
                "dropped": {reason.value: self.dropped[reason] for reason in Dropped},
            },
            "tokens": {
                "train": tokens,
                "trained": sum(self.trained[i] for i in train),
                "longest": max(self.lengths[i] for i in train),
                "mean": round(tokens / len(train), 2),
            },
        }

    def details(self) -> dict[str, Any]:
        """What the report says besides the numbers."""
        return {
            "dropped_examples": {reason.value: sources for reason, sources in self.examples.items()},
            "besides_rows": dict(self.besides),
        }


def _encode_all(data: Data, template: ChatTemplate, target: Path, report: Report) -> _Account:
    """Write every usable row to one Arrow file, in the order of the source."""
    import pyarrow as pa  # type: ignore[import-untyped]

    token_ids = pa.list_(pa.int32())
    schema = pa.schema(
        {
            "input_ids": token_ids,
            "labels": token_ids,
            "messages": pa.string(),
            "prompt_length": pa.int32(),
            "source": pa.string(),
        }
    )
    account, total = _Account(), files.count_rows(data)
    conversations = _conversations(data, account)
    with pa.OSFile(str(target), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        while batch := list(islice(conversations, BATCH)):
            used = list(_used(batch, template.encode(batch), data, account))
            if used:
                columns = zip(*used, strict=True)
                writer.write_batch(
                    pa.record_batch([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema)
                )
            report(step=account.read, steps=max(total or account.read, account.read))
    return account


def _conversations(data: Data, account: _Account) -> Iterator[Conversation]:
    """The rows as messages, without those that hold nothing to learn or stood there before."""
    found: formats.Format | None = None
    seen: set[bytes] = set()
    for row in files.read(data, account.besides):
        found = found or formats.choose(data.format, row)
        account.format = found.name
        account.read += 1
        messages = found.messages(row)
        reason = formats.reason_to_drop(messages)
        if reason is None:
            digest = hashlib.sha256(_json(messages).encode()).digest()[:16]
            if digest not in seen:
                seen.add(digest)
                yield Conversation(row, messages)
                continue
            reason = Dropped.DUPLICATE
        account.drop(row, reason)


def _used(
    batch: list[Conversation], encoded: list[Encoded | Dropped], data: Data, account: _Account
) -> Iterator[tuple[list[int], list[int], str, int, str]]:
    """The values of the columns for each row that is used."""
    for conversation, result in zip(batch, encoded, strict=True):
        row, messages = conversation.row, conversation.messages
        if isinstance(result, Dropped):
            account.drop(row, result)
            continue
        length = len(result.input_ids)
        if length > data.max_length:
            if data.overlong == "error":
                raise row.error(
                    f"{length} tokens are more than data.max_length={data.max_length}",
                    "raise data.max_length, shorten the row, or count such rows with data.overlong=drop",
                )
            account.drop(row, Dropped.OVERLONG)
            continue
        account.ranks.append(splitting.rank(data.seed, row.group or _json(messages[:-1])))
        account.lengths.append(length)
        account.trained.append(result.trained)
        yield result.input_ids, result.labels, _json(messages), result.prompt_length, row.source


def _save(rows: Path, folder: Path, held_out: set[int]) -> None:
    """Split the Arrow file, memory-mapped, into the two data sets."""
    import datasets  # type: ignore[import-untyped]

    datasets.disable_progress_bars()
    table = datasets.Dataset.from_file(str(rows))
    train = [i for i in range(len(table)) if i not in held_out]
    for name, chosen in (("train", train), ("held_out", sorted(held_out))):
        table.select(chosen).save_to_disk(folder / name, num_shards=1)  # without a number, no rows make no readable set


def _preview(train: Path, template: ChatTemplate) -> str:
    """The first training row as the model reads it, with the trained tokens marked."""
    import datasets

    row = datasets.Dataset.load_from_disk(train)[0]
    ids, labels = row["input_ids"], row["labels"]
    text, start = "", 0
    for end in range(1, len(ids) + 1):
        if end == len(ids) or (labels[end] == IGNORED) != (labels[start] == IGNORED):
            part = template.tokenizer.decode(ids[start:end], clean_up_tokenization_spaces=False)
            text += part if labels[start] == IGNORED else f"⟦{part}⟧"
            start = end
    fence = "`" * 8
    trained = sum(label != IGNORED for label in labels)
    return (
        f"# What is trained\n\nThe first row, {row['source']}: {len(ids)} tokens, "
        f"of which the {trained} between ⟦ and ⟧ carry loss.\n\n{fence}text\n{text}\n{fence}\n"
    )


def _lineage(data: Data, rows: dict[str, Any]) -> list[Dataset]:
    """The source, once for each use that is made of it."""
    sources = files.source_files(data)
    name, digest = Path(str(data.path)).resolve().name, files.content_hash(sources)[:32]
    uses = (("training", rows["train"]), ("evaluation", rows["held_out"]))
    return [Dataset(name, str(data.path), digest, count, context) for context, count in uses if count]


def _nothing_left(data: Data, account: _Account) -> DataError:
    if not account.read:
        return files.no_rows(data)
    reasons = ", ".join(f"{count} {reason}" for reason, count in account.dropped.items())
    hint = f"such as {', '.join(source for sources in account.examples.values() for source in sources)}"
    return DataError(f"data.path: none of {account.read} rows can be used: {reasons}", hint)


def _json(messages: list[dict[str, str]]) -> str:
    return json.dumps(messages, ensure_ascii=False)
