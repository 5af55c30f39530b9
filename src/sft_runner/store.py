"""Stage folders on disk: `stages/<stage>/<fingerprint>.partial/` while it works, without the suffix once it is whole.

The final name exists only if the stage is complete: the manifest is written last, then the folder is renamed. One
writer at a time holds the lock beside it. A damaged entry is a miss, never a crash.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sft_runner import seal
from sft_runner.disk import explained, json_bytes, read_json, sync_and_hash, sync_folder, write_bytes

REQUEST, RESULT, EVENTS = "stage.json", "result.json", "events.jsonl"
MANIFEST, LOG = seal.MANIFEST, seal.STAGE_LOG
_CONTROL = (REQUEST, RESULT, MANIFEST, EVENTS, LOG, seal.SEAL)
_Manifest = dict[str, Any]


class Store:
    """The stage folders below one `output_dir`."""

    def __init__(self, output_dir: Path) -> None:
        self.root = output_dir / "stages"

    def folder(self, stage: str, fingerprint: str) -> Path:
        """Where a complete stage lies."""
        return self.root / stage / fingerprint

    def partial(self, stage: str, fingerprint: str) -> Path:
        """Where it is worked on."""
        return self.root / stage / f"{fingerprint}.partial"

    def find(self, stage: str, fingerprint: str) -> _Manifest | None:
        """The manifest of a complete stage whose files are all there with their sizes; else None."""
        return _whole(self.folder(stage, fingerprint), fingerprint)

    def manifests(self, stage: str) -> list[_Manifest]:
        """All complete manifests of a stage, the newest first."""
        folders = [path for path in self.root.glob(f"{stage}/*/") if "." not in path.name]
        found = [manifest for path in folders if isinstance(manifest := read_json(path / MANIFEST), dict)]
        return sorted(found, key=lambda manifest: str(manifest.get("created", "")), reverse=True)


@contextmanager
def claim(partial: Path, wait: float = -1) -> Iterator[None]:
    """Hold the lock of a stage folder; raises `TimeoutError` after `wait` seconds (-1 waits for ever).

    The lock ends with the process that holds it, however that process ends.
    """
    lock = FileLock(_lock(partial), timeout=wait)
    try:
        lock.acquire()
    except Timeout:
        raise TimeoutError(f"{partial} is held by another run") from None
    try:
        yield
    finally:
        lock.release()


def clear(partial: Path, keeps: tuple[str, ...]) -> None:
    """Remove what an earlier attempt left, but for the request, its log and what the stage goes on from."""
    for path in partial.iterdir():
        if path.name in (REQUEST, EVENTS, LOG, *keeps):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def commit(partial: Path, manifest: _Manifest) -> _Manifest:
    """Make a finished folder the stage's output: sync and hash its files, seal it, write the manifest, rename. Needs
    the lock.

    An older output of the same fingerprint stays valid until that moment and is removed afterwards.
    """
    files = {str(path.relative_to(partial)): sync_and_hash(path) for path in _outputs(partial)}
    for folder in {(partial / name).parent for name in files}:
        sync_folder(folder)
    manifest = {**manifest, "files": files}
    content = json_bytes(manifest)
    with explained(partial):
        seal.of_stage(partial, files, content)
    write_bytes(partial / MANIFEST, content)
    promote(partial)
    return manifest


def promote(partial: Path) -> bool:
    """Rename a partial folder that is whole; False where it is not. Needs the lock."""
    final = partial.with_suffix("")
    if _whole(partial, final.name) is None:
        return False
    aside = final.with_name(f"{final.name}.replaced")
    with explained(final):
        if final.exists():
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(final, aside)
        os.rename(partial, final)
        sync_folder(final.parent)
    shutil.rmtree(aside, ignore_errors=True)
    return True


def _whole(folder: Path, fingerprint: str) -> _Manifest | None:
    """The folder's manifest if it is for this fingerprint and every file is there with its size."""
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("fingerprint") != fingerprint:
        return None
    files = manifest.get("files")
    if not isinstance(files, dict):
        return None
    for name, facts in files.items():
        try:
            if (folder / name).stat().st_size != facts["size"]:
                return None
        except (OSError, KeyError, TypeError):
            return None
    return manifest


def _outputs(partial: Path) -> list[Path]:
    """The files that a stage made, without those that steer it."""
    found = (path for path in partial.rglob("*") if path.is_file() and not path.name.endswith(".tmp"))
    return sorted(path for path in found if path.parent != partial or path.name not in _CONTROL)


def _lock(partial: Path) -> Path:
    return partial.with_name(f".{partial.with_suffix('').name}.lock")
