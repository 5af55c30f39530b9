"""Writing so that a crash between any two lines leaves either the old file or the new one, never half of one."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sft_runner.errors import MachineError


def write_json(path: Path, values: Any) -> None:
    """Write `values` aside, sync, rename, sync the folder."""
    write_bytes(path, json_bytes(values))


def json_bytes(values: Any) -> bytes:
    """The bytes of a JSON file that holds `values`."""
    return (json.dumps(values, indent=1, ensure_ascii=False, default=str) + "\n").encode()


def write_bytes(path: Path, content: bytes) -> None:
    """Write aside, sync, rename, sync the folder."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explained(path):
        with open(aside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        sync_folder(path.parent)


def read_json(path: Path) -> Any:
    """The content of a JSON file; None where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
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
def explained(path: Path) -> Iterator[None]:
    """Turn a full disk and a missing permission into a line that names the place."""
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else _os_error(error)
        if number in (errno.ENOSPC, errno.EDQUOT):
            hint = "free some space, or set output_dir to another disk; the same command then goes on"
            raise MachineError(f"{path.parent}: no space left on the disk", hint) from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG):
            raise MachineError(
                f"{path}: cannot be written: {os.strerror(number)}", "set output_dir to another folder"
            ) from error
        raise


def _os_error(error: Exception) -> int | None:
    """The system's number in the error of a library that is written in Rust, such as safetensors."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found.group(1)) if found else None
