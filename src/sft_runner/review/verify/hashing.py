"""Bytes from the disk to SHA-256, several files at a time, and never a hash that somebody remembered."""

import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sft_runner.fingerprint import Hashes
from sft_runner.review.verify.finding import Part
from sft_runner.seal import Facts

CHUNK = 1 << 20
"""Bytes read at once: the hash runs without Python's lock then."""
THREADS = 4
"""Files read at once: SHA-256 takes 1 to 2 GB a second on one core, a disk gives more."""
Tell = Callable[[int], None]


class Hasher:
    """Reads files; `tell` is told of bytes as they are read, from any thread."""

    def __init__(self, tell: Tell = lambda count: None) -> None:
        self.tell = tell
        self.files, self.bytes = 0, 0
        self.counting = threading.Lock()

    def facts(self, path: Path, most: int | None = None) -> Facts:
        """Size and SHA-256 of a file, or of its first `most` bytes. Raises `OSError` where it cannot be read."""
        digest, size = hashlib.sha256(), 0
        for chunk in self._chunks(path, most):
            digest.update(chunk)
            size += len(chunk)
        return {"size": size, "sha256": digest.hexdigest()}

    def all(self, paths: Iterable[Path]) -> dict[Path, Facts | OSError]:
        """The facts of many files; of one that cannot be read why."""
        found: dict[Path, Facts | OSError] = {}
        large: list[Path] = []
        for path in paths:
            if os.path.isfile(path) and os.path.getsize(path) > CHUNK:
                large.append(path)
            else:
                found[path] = self._tried(path)
        if large:
            with ThreadPoolExecutor(THREADS) as pool:
                found |= zip(large, pool.map(self._tried, large), strict=True)
        return found

    def git_blob(self, path: Path) -> str:
        """The SHA-1 by which git, and the hub's cache, name a small file. Raises `OSError`."""
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
        for chunk in self._chunks(path, None):
            digest.update(chunk)
        return digest.hexdigest()

    def _tried(self, path: Path) -> Facts | OSError:
        try:
            return self.facts(path)
        except OSError as error:
            return error

    def _chunks(self, path: Path, most: int | None) -> Iterator[bytes]:
        left = most
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise OSError(errno.EINVAL, "it is no file")
        with open(path, "rb") as file:
            with suppress(AttributeError, OSError):  # what lies in memory says nothing of the disk
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while chunk := file.read(CHUNK if left is None else min(CHUNK, left)):
                left = None if left is None else left - len(chunk)
                with self.counting:
                    self.bytes += len(chunk)
                    self.tell(len(chunk))
                yield chunk
        with self.counting:
            self.files += 1


@contextmanager
def measured(part: Part, hasher: Hasher) -> Iterator[None]:
    """Count what is hashed for a part, and how long that takes."""
    began, files, count = time.perf_counter(), hasher.files, hasher.bytes
    yield
    part.files, part.bytes = hasher.files - files, hasher.bytes - count
    part.seconds = time.perf_counter() - began


class Fresh(Hashes):
    """Hashes for fingerprints that are read from the disk each time, once in this object's life."""

    def __init__(self, hasher: Hasher) -> None:
        self.hasher = hasher
        self.known: dict[str, list[Any]] = {}
        self.changed = False

    def of(self, path: Path) -> str:
        """The hash of one file."""
        if str(path) not in self.known:
            self.known[str(path)] = [self.hasher.facts(path)["sha256"]]
        return str(self.known[str(path)][0])
