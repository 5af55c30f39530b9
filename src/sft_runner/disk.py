"""Writing so that a crash between any two lines leaves either the old file or the new one, never half of one."""

import errno
import fcntl
import glob
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from sft_runner.errors import MachineError

_HELD: ContextVar[frozenset[str]] = ContextVar("_HELD", default=frozenset())
"""Folders that are held by `alone`."""


def write_json(path: Path, values: Any) -> None:
    """Write `values` aside, sync, rename, sync the folder."""
    write_bytes(path, json_bytes(values))


def json_bytes(values: Any) -> bytes:
    """The bytes of a JSON file that holds `values`."""
    return (json.dumps(values, indent=1, ensure_ascii=False, default=str) + "\n").encode()


def write_bytes(path: Path, content: bytes) -> None:
    """Write aside, sync, rename, sync the folder."""
    with explained(path):
        _put(path, content)


def replace(path: Path, data: bytes) -> bool:
    """Put `data` in place of a file of the user's, or make it; False where it holds that already.

    Written aside, synced and renamed while the folder is held; a link stays one and the mode stays as it is. What a
    command left that was killed is removed. Raises `MachineError` where it cannot be written.
    """
    path = Path(os.path.realpath(path))
    hint = "free some space or mend the permissions, and run the command again"
    try:
        with explained(path, hint), alone(path.parent):
            if path.exists() and not path.is_file():  # a rename would put a file in place of a device
                raise MachineError(f"{path}: cannot be written: it is no file", "move it away, or name a file")
            if path.exists() and path.read_bytes() == data:
                return False
            for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
                left.unlink(missing_ok=True)
            _put(path, data, path.stat().st_mode & 0o777 if path.exists() else None)
    except OSError as error:  # such as a folder that is gone
        raise MachineError(f"{path}: cannot be written: {error.strerror or error}", hint) from error
    return True


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder against other commands that write there; ends with this process, however it ends. Nothing is left
    in it. Whoever holds it may hold it again. Raises `OSError` for a folder that is not there."""
    name = os.path.realpath(folder)
    if name in _HELD.get():
        yield
        return
    handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY)
    token = _HELD.set(_HELD.get() | {name})
    try:
        with suppress(OSError):  # not every network disk has locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        _HELD.reset(token)
        os.close(handle)


def read_json(path: Path) -> Any:
    """The content of a JSON file; None where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None


def remember(path: Path, values: Any) -> None:
    """Keep what can be found out again for the next command; one that cannot be written is no reason to stop."""
    aside = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps(values), encoding="utf-8")
        os.replace(aside, path)
    except OSError:
        with suppress(OSError):
            aside.unlink()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_and_hash(path: Path) -> dict[str, Any]:
    """Bring a file's bytes to the disk; its size in bytes and its SHA-256."""
    with explained(path), open(path, "rb") as file:
        os.fsync(file.fileno())
        return {"size": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


@contextmanager
def explained(path: Path, hint: str = "") -> Iterator[None]:
    """Turn a full disk and a missing permission into a line that names the place; `hint` for what no run writes."""
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else _os_error(error)
        if number in (errno.ENOSPC, errno.EDQUOT):
            elsewhere = "free some space, or set output_dir to another disk; the same command then goes on"
            raise MachineError(f"{path.parent}: no space left on the disk", hint or elsewhere) from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG):
            raise MachineError(
                f"{path}: cannot be written: {os.strerror(number)}", hint or "set output_dir to another folder"
            ) from error
        raise


def _os_error(error: Exception) -> int | None:
    """The system's number in the error of a library that is written in Rust, such as safetensors."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found.group(1)) if found else None


def _put(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write aside, with these rights, sync, rename, sync the folder."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(aside, "wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)
