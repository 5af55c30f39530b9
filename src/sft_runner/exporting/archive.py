"""One `.tar.gz` with all that is needed to use, check and judge a model; no checkpoints, no optimizer states.

The same files give the same bytes: sorted names, no times, no owners.
"""

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from sft_runner.disk import explained
from sft_runner.exporting.copying import Meter

SUMS = "SHA256SUMS"
LEVEL = 1
"""Of gzip: weights hardly shrink, whatever it takes."""
MODE = 0o644


class _Hashed:
    """A file that is read once, by the archive and by its hash."""

    def __init__(self, file: IO[bytes], meter: Meter) -> None:
        self.file, self.meter, self.hash = file, meter, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self.file.read(size)
        self.hash.update(piece)
        self.meter(len(piece))
        return piece


class _Counted:
    """A file to write to whose bytes are hashed on their way."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.hash = file, hashlib.sha256()

    def write(self, piece: bytes) -> int:
        self.hash.update(piece)
        return self.file.write(piece)

    def flush(self) -> None:
        self.file.flush()


def write(files: Mapping[str, Path], texts: Mapping[str, str], target: Path, name: str, meter: Meter) -> Path:
    """Write `target/NAME.tar.gz` and `target/SHA256SUMS`; in it everything lies below `NAME/`.

    `files` are names in the archive -> where they lie, `texts` such names -> what they hold.
    """
    target.mkdir(parents=True, exist_ok=True)
    path = target / f"{name}.tar.gz"
    sums = {}
    with explained(path), open(path, "wb") as raw:
        counted = _Counted(raw)
        with (
            gzip.GzipFile("", "wb", LEVEL, counted, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
        ):
            for one in sorted({*files, *texts}):
                if one in texts:
                    sums[one] = _add_text(archive, f"{name}/{one}", texts[one])
                else:
                    sums[one] = _add(archive, f"{name}/{one}", files[one], meter)
            _add_text(archive, f"{name}/{SUMS}", _listed(sums))
        raw.flush()
        os.fsync(raw.fileno())
        (target / SUMS).write_text(_listed({path.name: counted.hash.hexdigest()}), encoding="utf-8")
    return path


def _add(archive: tarfile.TarFile, name: str, path: Path, meter: Meter) -> str:
    """Add a file; its SHA-256."""
    with open(path, "rb") as file:
        hashed = _Hashed(file, meter)
        archive.addfile(_entry(name, os.fstat(file.fileno()).st_size), hashed)
        return hashed.hash.hexdigest()


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> str:
    data = text.encode()
    archive.addfile(_entry(name, len(data)), io.BytesIO(data))
    return hashlib.sha256(data).hexdigest()


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)  # its time, user and group are 0 and empty
    entry.size, entry.mode = size, MODE
    return entry


def _listed(sums: Mapping[str, str]) -> str:
    """What `sha256sum --check` reads."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
