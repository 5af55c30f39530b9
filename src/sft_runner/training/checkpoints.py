"""Checkpoints that can be trusted after a crash.

transformers writes a checkpoint in place, so a folder by itself says nothing about being whole. `seal` writes
`complete.json` last, with the size and SHA-256 of every file; a checkpoint without it, or that does not fit it, is
never resumed from. Only checkpoints that fit their hashes are loaded, because parts of them are pickles.
"""

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sft_runner.disk import read_json, sync_and_hash, sync_folder, write_json

SEAL = "complete.json"
"""Written last into a checkpoint."""
PREFIX = "checkpoint-"
"""How transformers names checkpoint folders, before the step."""
Files = dict[str, dict[str, Any]]
"""Relative path -> `size` in bytes and `sha256`."""


def seal(checkpoint: Path) -> None:
    """Bring a checkpoint that was just written to the disk, and declare it whole."""
    write_json(checkpoint / SEAL, {"files": settle(checkpoint)})
    sync_folder(checkpoint.parent)


def latest(folder: Path, until: int | None = None, every: int = 1) -> tuple[int, Path] | None:
    """The step and folder of the newest sealed checkpoint whose files have their sizes: up to step `until`, and of a
    multiple of `every`.

    Cheap: reads no weights.
    """
    found = (
        (step, path) for step, path in _newest_first(folder) if (until is None or step <= until) and step % every == 0
    )
    return next(((step, path) for step, path in found if _sealed(path, hashes=False)), None)


def around(folder: Path, step: int) -> set[int]:
    """The newest checkpoint up to a step, and the oldest after it: the one to fall back on, and its successor."""
    steps = [taken for taken, _ in _newest_first(folder)]
    return {*[taken for taken in steps if taken <= step][:1], *[taken for taken in steps if taken > step][-1:]}


def since(folder: Path, step: int, every: int) -> set[int]:
    """The newest checkpoint up to a step, and all after it: of those that are of a multiple of `every` steps."""
    steps = [taken for taken, _ in _newest_first(folder) if taken % every == 0]
    return {*[taken for taken in steps if taken <= step][:1], *[taken for taken in steps if taken > step]}


def whole(folder: Path, step: int) -> Path | None:
    """The checkpoint of a step, where there is one and its files fit their hashes."""
    path = folder / f"{PREFIX}{step}"
    return path if _sealed(path, hashes=True) else None


def clean(folder: Path) -> tuple[int, Path] | None:
    """Remove what cannot be resumed from; returns the newest checkpoint, whose hashes were verified."""
    newest: tuple[int, Path] | None = None
    for step, path in _newest_first(folder):
        if not _sealed(path, hashes=newest is None):
            shutil.rmtree(path)
        elif newest is None:
            newest = step, path
    return newest


def rotate(folder: Path, keep: int, needed: Collection[int] = ()) -> None:
    """Remove all but the newest checkpoints and those of the steps that are needed.

    Called after `seal`, so that a whole one is there at any moment.
    """
    for step, path in _newest_first(folder)[keep:]:
        if step not in needed:
            shutil.rmtree(path)


def discard(folder: Path, after: int) -> None:
    """Remove all checkpoints that were taken after a step."""
    for step, path in _newest_first(folder):
        if step > after:
            shutil.rmtree(path)


def settle(folder: Path) -> Files:
    """Bring the files of a folder to the disk; their sizes and hashes."""
    files = {str(path.relative_to(folder)): sync_and_hash(path) for path in _files(folder)}
    for place in {folder, *((folder / name).parent for name in files)}:
        sync_folder(place)
    return files


def fits(folder: Path, files: Files, hashes: bool = True) -> bool:
    """Whether a folder holds exactly these files, with their sizes and, unless told not to look, their hashes."""
    if not files or files.keys() != {str(path.relative_to(folder)) for path in _files(folder)}:
        return False
    for name, facts in files.items():
        path = folder / name
        if path.stat().st_size != facts["size"] or (hashes and sync_and_hash(path) != facts):
            return False
    return True


def _sealed(checkpoint: Path, hashes: bool) -> bool:
    """Whether a checkpoint fits its seal; one whose seal makes no sense does not."""
    try:
        return fits(checkpoint, read_json(checkpoint / SEAL)["files"], hashes)
    except (AttributeError, KeyError, TypeError):
        return False


def _newest_first(folder: Path) -> list[tuple[int, Path]]:
    found = [(path.name.removeprefix(PREFIX), path) for path in folder.glob(f"{PREFIX}*/")]
    return sorted(((int(step), path) for step, path in found if step.isdecimal()), reverse=True)


def _files(folder: Path) -> list[Path]:
    """What a folder holds; a seal, and what a crash left of one, are no part of it."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if path.name != SEAL and not path.name.endswith(".tmp"))
