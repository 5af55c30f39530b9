"""Writing the merged files: threads that each take a piece, read it, merge it and write it to its place.

A thread needs no more memory than a piece. Only a tensor that PEFT's own layer merges, or that is rounded, is in memory
as a whole.
"""

import errno
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sft_runner.data.pool import cores
from sft_runner.disk import explained
from sft_runner.errors import UserError
from sft_runner.merging import arithmetic, shards
from sft_runner.merging.layers import Edit
from sft_runner.merging.pieces import Job, Piece, pieces
from sft_runner.merging.shards import FLOATS

if TYPE_CHECKING:
    from torch import Tensor

WHOLE = 64 << 20
"""Bytes in float32 of all tensors that are in memory as a whole at one time; PEFT needs a few times as many for its
sums. A tensor that is larger is there alone."""
THREADS = 8
"""More do not make a disk faster."""
SYNC = 256 << 20
"""Bytes after which a file is brought to the disk while the rest of it is written."""
PATIENCE = 0.5
"""Seconds between two reports."""


def write(
    jobs: Sequence[Job], edits: Mapping[str, Edit], rounding: Any, report: Callable[..., None] | None
) -> set[str]:
    """Write all files and bring them to the disk; the names of the edited tensors that differ from the base's.

    Raises what a piece raises. No thread and no open file is left behind, however it ends.
    """
    todo = [piece for job in jobs for piece in pieces(job, edits, rounding)]
    total = sum(piece.size for piece in todo)
    work = _Work(edits, rounding)
    threads = min(THREADS, cores())
    with _one_thread_each(), ThreadPoolExecutor(threads) as pool, ThreadPoolExecutor(1) as syncing:
        work.syncing = syncing
        empty = [job for job in jobs if not job.left]
        waiting = [*(pool.submit(work.close, job) for job in empty), *(pool.submit(work.do, one) for one in todo)]
        try:
            while waiting:
                done, rest = wait(waiting, PATIENCE, FIRST_EXCEPTION)
                for future in done:
                    future.result()
                waiting = list(rest)
                if report and total:
                    report(message=f"merge: {work.written / 1e9:.1f} of {total / 1e9:.1f} GB")
            for synced in work.synced:
                synced.result()
        finally:
            work.stopped = True
            pool.shutdown(cancel_futures=True)
            syncing.shutdown(cancel_futures=True)
            for job in jobs:
                for handle in job.handles or ():
                    os.close(handle)
                job.handles = None
    return work.changed


class _Work:
    """What the threads share."""

    def __init__(self, edits: Mapping[str, Edit], rounding: Any) -> None:
        self.edits, self.rounding = edits, rounding
        self.syncing: ThreadPoolExecutor | None = None
        self.synced: list[Future[None]] = []
        self.changed: set[str] = set()
        self.written = 0
        self.stopped = False
        self._whole = _Budget(WHOLE)
        self._own = threading.local()

    def do(self, piece: Piece) -> None:
        """Make one piece."""
        if self.stopped:
            return
        with explained(piece.job.target.path):
            source, target = self._handles(piece.job)
            if piece.tensor is None:
                self._copy(piece, source, target)
            elif piece.row is not None:
                self._merge_rows(piece, source, target)
            else:
                with self._whole.taken(4 * math.prod(piece.tensor.shape)):
                    if self.stopped:
                        return
                    self._merge_whole(piece, source, target)
            self._count(piece)

    def close(self, job: Job) -> None:
        """Write what a file begins with where it holds nothing else, and end it."""
        with explained(job.target.path):
            self._handles(job)
            self._sync(job, last=True)

    def _handles(self, job: Job) -> tuple[int, int]:
        """A file's open source and target, which has its header and its size from the beginning."""
        with job.lock:
            if job.handles is None:
                source = os.open(job.source.path, os.O_RDONLY)
                try:
                    target = os.open(job.target.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
                except BaseException:
                    os.close(source)
                    raise
                job.handles = source, target
                os.ftruncate(target, job.target.size)
                header = os.pread(source, job.source.data, 0) if job.as_before else shards.header(job.target)
                _write(job, target, header, 0)
            return job.handles

    def _copy(self, piece: Piece, source: int, target: int) -> None:
        done = _copied(piece, source, target)
        size = piece.size - done
        if size:
            buffer = self._buffer("bytes", size)[:size].numpy()
            _read(piece.job, source, buffer, piece.source + done)
            _write(piece.job, target, buffer, piece.target + done)

    def _merge_rows(self, piece: Piece, source: int, target: int) -> None:
        import torch

        assert piece.tensor is not None
        assert piece.row is not None
        dtype = getattr(torch, FLOATS[piece.tensor.dtype])
        raw, made = (self._buffer(name, piece.size)[: piece.size] for name in ("bytes", "made"))
        _read(piece.job, source, raw.numpy(), piece.source)
        shape = (-1, *piece.tensor.shape[1:])
        before, after = raw.view(dtype).view(shape), made.view(dtype).view(shape)
        room = self._buffer("room", 2 * piece.size)[: 2 * piece.size].view(torch.float32).view(shape)
        arithmetic.rows(self.edits[piece.tensor.name], before, after, room, piece.row, piece.tensor.name)
        self._compare(piece.tensor.name, before, after)
        _write(piece.job, target, made.numpy(), piece.target)

    def _merge_whole(self, piece: Piece, source: int, target: int) -> None:
        import torch

        assert piece.tensor is not None
        assert piece.origin is not None
        origin, edit = piece.origin, self.edits.get(piece.tensor.name)
        raw = torch.empty(origin.size, dtype=torch.uint8)
        _read(piece.job, source, raw.numpy(), piece.source)
        weight = raw.view(getattr(torch, FLOATS[origin.dtype])).view(origin.shape)
        if self.rounding is not None and self.rounding.covers(origin.name):
            weight = self.rounding.round(origin.name, weight).to(weight.dtype)
        if edit is not None:
            merged = arithmetic.whole(edit, weight, piece.tensor.name)
            self._compare(piece.tensor.name, weight, merged)
            weight = merged
        _write(piece.job, target, weight.contiguous().reshape(-1).view(torch.uint8).numpy(), piece.target)

    def _compare(self, name: str, before: "Tensor", after: "Tensor") -> None:
        """Note that a tensor has changed; most show it at once."""
        import torch

        if name not in self.changed and not torch.equal(before, after):
            self.changed.add(name)

    def _count(self, piece: Piece) -> None:
        """Bring a file to the disk now and then, and close it behind its last piece."""
        job = piece.job
        with job.lock:
            self.written += piece.size
            job.left, job.unsynced = job.left - 1, job.unsynced + piece.size
            last = not job.left
            due = last or job.unsynced >= SYNC
            if due:
                job.unsynced = 0
        if due:
            self._sync(job, last)

    def _sync(self, job: Job, last: bool) -> None:
        assert self.syncing is not None
        self.synced.append(self.syncing.submit(self._synced, job, last))

    def _synced(self, job: Job, last: bool) -> None:
        if self.stopped or job.handles is None:
            return
        with explained(job.target.path):
            os.fsync(job.handles[1])
            if last:
                handles, job.handles = job.handles, None
                for handle in handles:
                    os.close(handle)

    def _buffer(self, name: str, size: int) -> "Tensor":
        """Bytes that a thread uses again and again: fresh memory costs more than the work that is done in it."""
        import torch

        found: Tensor | None = getattr(self._own, name, None)
        if found is None or len(found) < size:
            found = torch.empty(size, dtype=torch.uint8)
            setattr(self._own, name, found)
        return found


class _Budget:
    """Bytes that threads take, and wait for."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self._returned = threading.Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Have so many bytes while the block runs, or all there are where it is more than that."""
        size = min(size, self.limit)
        with self._returned:
            self._returned.wait_for(lambda: self.used + size <= self.limit)
            self.used += size
        try:
            yield
        finally:
            with self._returned:
                self.used -= size
                self._returned.notify_all()


def _copied(piece: Piece, source: int, target: int) -> int:
    """How many of a piece's bytes the kernel has copied by itself: all, or where it cannot, as between disks, none."""
    done = 0
    with piece.job.writing:
        while done < piece.size:
            try:
                count = os.copy_file_range(source, target, piece.size - done, piece.source + done, piece.target + done)
            except OSError as error:
                if error.errno in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                    break
                raise
            if not count:
                break
            done += count
    return done


def _read(job: Job, handle: int, buffer: Any, place: int) -> None:
    """Fill a buffer of bytes. Raises `UserError` where the file ends before."""
    view = memoryview(buffer)
    while view:
        count = os.preadv(handle, [view], place)
        if not count:
            raise UserError(f"model.name: {job.source.path} was cut off while it was read", "fetch the model again")
        view, place = view[count:], place + count


def _write(job: Job, handle: int, data: Any, place: int) -> None:
    """Write all bytes of a buffer."""
    view = memoryview(data)
    with job.writing:
        while view:
            count = os.pwrite(handle, view, place)
            view, place = view[count:], place + count


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let torch calculate each piece in the thread that has it: the pieces keep all cores busy already."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
