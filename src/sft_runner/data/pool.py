"""Batches of rows encoded on all cores, in order.

Forked children take batches and hand record batches back. Only a few are on their way at a time, so memory does not
grow with the data. A child ends with its parent, however that ends.
"""

import os
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path

from sft_runner.data import files
from sft_runner.data.account import Account
from sft_runner.data.batch import Batch, schema
from sft_runner.data.encoding import BATCH, Encoder
from sft_runner.data.row import Row

ALONE = 4
"""Batches up to which the work is done in this process: starting children would take longer."""


def encode_all(encoder: Encoder, target: Path, account: Account, report: Callable[[int], None]) -> None:
    """Write every usable row of all sources to one Arrow stream file.

    `account` is told what became of each row, `report` how many rows have been read.
    """
    import pyarrow as pa  # type: ignore[import-untyped]

    _settle_formats(encoder)
    columns = schema()
    with pa.OSFile(str(target), "wb") as file, pa.ipc.new_stream(file, columns) as writer:
        read = 0
        for batch in _in_order(encoder, _batches(encoder, account)):
            if batch.table:
                writer.write_batch(pa.ipc.read_record_batch(pa.py_buffer(batch.table), columns))
            batch.table = b""
            read += batch.read
            account.add(batch)
            report(read)
    account.close()


def _settle_formats(encoder: Encoder) -> None:
    """Look at the first row of each source."""
    for index, source in enumerate(encoder.sources):
        met: Counter[str] = Counter()
        first = files.first_row(source, encoder.data, met)
        if first is None:
            raise files.no_rows(source, met)
        encoder.choose(index, first)


def _batches(encoder: Encoder, account: Account) -> Iterator[tuple[int, list[Row]]]:
    """The rows of all sources, some at a time."""
    for index, source in enumerate(encoder.sources):
        met = account.sources[index]
        rows = files.read(source, encoder.data, met.besides, places=met.places)
        while batch := list(islice(rows, BATCH)):
            yield index, batch


def _in_order(encoder: Encoder, batches: Iterator[tuple[int, list[Row]]]) -> Iterator[Batch]:
    """The encoded batches in the order of the rows, from this process or, where there are many, from children."""
    first = list(islice(batches, ALONE))
    if len(first) < ALONE or cores() == 1:
        yield from (encoder.encode(*batch) for batch in chain(first, batches))
        return
    yield from _from_children(encoder, chain(first, batches))


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _from_children(encoder: Encoder, batches: Iterator[tuple[int, list[Row]]]) -> Iterator[Batch]:
    global _encoder
    _encoder = encoder  # forked children find it here; a tokenizer is never pickled
    pool = ProcessPoolExecutor(cores(), get_context("fork"), _begin, (os.getpid(),))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on: threads, which here only wait
        pool.submit(int).result()  # all children are forked now
    waiting: deque[Future[Batch]] = deque()
    try:
        for source, rows in batches:
            waiting.append(pool.submit(_encode, source, rows))
            if len(waiting) > 2 * cores():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        _encoder = None


_encoder: Encoder | None = None


def _encode(source: int, rows: list[Row]) -> Batch:
    """What a child does."""
    assert _encoder is not None
    return _encoder.encode(source, rows)


def _begin(parent: int) -> None:
    """Prepare a child: it takes one core, and ends when its parent is gone, however that went."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
