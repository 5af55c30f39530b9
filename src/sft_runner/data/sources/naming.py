"""What files are called in rows, reports and messages."""

import os
from pathlib import Path


def name_below(root: Path, path: Path) -> str:
    """A file's path below a folder."""
    return shown(path.relative_to(root).as_posix())


def shown(name: str) -> str:
    """A name of the file system as text: bytes that are not UTF-8 stand as `\\xff`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
