"""Checkpoints that can be trusted after a crash.

transformers writes a checkpoint in place, so a folder by itself says nothing about being whole. `seal` writes
`complete.json` last, with the size and SHA-256 of every file; a checkpoint without it, or that does not fit it, is
never resumed from. Only checkpoints that fit their hashes are loaded, because parts of them are pickles.
"""

import shutil
from pathlib import Path
from typing import Any

from sft_runner.disk import read_json, sync_and_hash, sync_folder, write_json

SEAL = "complete.json"
"""Written last into a checkpoint."""
PREFIX = "checkpoint-"
"""How transformers names checkpoint folders, before the step."""


def seal(checkpoint: Path) -> None:
    """Bring a checkpoint that was just written to the disk and declare it whole."""
    files = {str(path.relative_to(checkpoint)): sync_and_hash(path) for path in _files(checkpoint)}
    for folder in {checkpoint, *((checkpoint / name).parent for name in files)}:
        sync_folder(folder)
    sync_folder(checkpoint.parent)
    write_json(checkpoint / SEAL, {"files": files})


def latest(folder: Path) -> tuple[int, Path] | None:
    """The step and folder of the newest sealed checkpoint whose files have their sizes. Cheap: reads no weights."""
    for step, path in _newest_first(folder):
        if _fits(path, hashes=False):
            return step, path
    return None


def clean(folder: Path) -> tuple[int, Path] | None:
    """Remove what cannot be resumed from; returns the newest checkpoint, whose hashes were verified."""
    kept: tuple[int, Path] | None = None
    for step, path in _newest_first(folder):
        if kept is None and _fits(path, hashes=True):
            kept = step, path
        elif kept is None or not _fits(path, hashes=False):
            shutil.rmtree(path)
    return kept


def _newest_first(folder: Path) -> list[tuple[int, Path]]:
    found = [(path.name.removeprefix(PREFIX), path) for path in folder.glob(f"{PREFIX}*/")]
    return sorted(((int(step), path) for step, path in found if step.isdecimal()), reverse=True)


def _fits(checkpoint: Path, hashes: bool) -> bool:
    """Whether a checkpoint has every file of its seal, with its size and, if asked, its hash, and no other file."""
    sealed = read_json(checkpoint / SEAL)
    files: dict[str, Any] = sealed.get("files", {}) if isinstance(sealed, dict) else {}
    if not files or files.keys() != {str(path.relative_to(checkpoint)) for path in _files(checkpoint)}:
        return False
    for name, facts in files.items():
        path = checkpoint / name
        if path.stat().st_size != facts["size"] or (hashes and sync_and_hash(path) != facts):
            return False
    return True


def _files(checkpoint: Path) -> list[Path]:
    """What a checkpoint consists of; the seal and what a crash left of one are no part of it."""
    found = (path for path in checkpoint.rglob("*") if path.is_file())
    return sorted(path for path in found if path.name != SEAL and not path.name.endswith(".tmp"))
