"""Copies of files, and how far the writing of all forms is."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from sft_runner.disk import explained
from sft_runner.stages.stage import Report

PIECE = 8 << 20
"""Bytes that are read at once."""
MB = 1_000_000
TOLD = 64 * MB
"""Bytes between two reports."""


class Meter:
    """Counts bytes and reports them in MB."""

    def __init__(self, report: Report, total: int) -> None:
        self.report, self.total = report, max(total, 1)
        self.done = self.told = 0
        self.form = ""

    def begin(self, form: str) -> None:
        """From here on bytes are those of this form."""
        self.form = form
        self._tell()

    def __call__(self, count: int) -> None:
        """So many bytes were written."""
        self.done += count
        if self.done - self.told >= TOLD:
            self._tell()

    def _tell(self) -> None:
        self.told = self.done
        total = max(self.total, self.done)
        self.report(step=self.done // MB, steps=max(1, total // MB), message=f"{self.form} (MB)")


def copy(files: Iterable[Path], target: Path, meter: Meter) -> None:
    """Copy files into the folder `target`. Not links: who edits an export must not edit what is cached."""
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        copy_file(file, target / file.name, meter)


def copy_file(file: Path, target: Path, meter: Meter) -> None:
    """Copy one file. Raises `MachineError` where the disk is full."""
    with explained(target), open(file, "rb") as source, open(target, "wb") as copied:
        while piece := source.read(PIECE):
            copied.write(piece)
            meter(len(piece))
    shutil.copymode(file, target)


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
