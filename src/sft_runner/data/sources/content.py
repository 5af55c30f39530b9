"""Which files of a place count, and what they are: rows, documents or code."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sft_runner.data.readers.file import SUFFIXES
from sft_runner.data.sources.address import Address
from sft_runner.errors import DataError

TABLES = (".arrow", ".avro", ".feather", ".h5", ".ods", ".orc", ".tsv", ".xls", ".xlsx")
UNREAD = (*TABLES, ".7z", ".bz2", ".gz", ".tar", ".xz", ".zip", ".zst")
"""Suffixes of files that may well hold rows, but are not read: passing over them would lose rows without a word."""
NOT_ITS_OWN = {"__pycache__", "build", "dist", "node_modules", "site-packages"}
"""Folders whose documents and code are copies, made by tools, or somebody else's."""


@dataclass(frozen=True)
class Content:
    """The files of one source."""

    kind: str
    """`rows`, `documents` or `code`."""
    root: Path
    """The folder below which files are named."""
    files: tuple[Path, ...]
    """Absolute paths, sorted by name; at least one."""
    single: bool = False
    """Whether the source is this one file, whatever it is called."""

    def name(self, path: Path) -> str:
        """What a file is called in rows and messages."""
        return path.relative_to(self.root).as_posix()


def content_of(address: Address, format: str) -> Content | None:
    """What is found at an address; None while it must be fetched. `format` is a value of `data.format`.

    Raises `DataError` for a file that is not read, and for a folder where nothing is.
    """
    place = address.place()
    if place is None:
        return None
    return _folder(place, address, format) if place.is_dir() else _file(place, format)


def _kinds(format: str) -> dict[str, tuple[str, ...]]:
    """The kinds of content that a format is read from, with their suffixes, the likeliest first."""
    from sft_runner.data import code, documents

    everything = {"rows": SUFFIXES, "documents": documents.SUFFIXES, "code": code.SUFFIXES}
    if format == "auto":
        return everything
    kind = {"docs": "documents", "python": "code"}.get(format, "rows")
    return {kind: everything[kind]}


def _file(path: Path, format: str) -> Content:
    kinds = _kinds(format)
    for kind, suffixes in kinds.items():
        if _ending([path.name], suffixes):
            return Content(kind, path.parent, (path,), single=True)
    raise DataError(
        f"data.path: {path.name}: '{path.suffix}' files are not read with data.format={format}, but {_listed(kinds)}",
        _other_choice([path.name], format) or "convert it, for example to one JSON object a line",
    )


def _folder(root: Path, address: Address, format: str) -> Content:
    kinds = _kinds(format)
    for kind, suffixes in kinds.items():
        names = _ending(_names(root, own=kind != "rows"), suffixes)
        if kind == "rows":
            found, names = names, sorted(address.chosen(names))
            if names == found:
                _require_readable(root, names)
        if names:
            return Content(kind, root, tuple(root / name for name in names))
    everything = _names(root, own=False)
    found_suffixes = Counter(Path(name).suffix or "without suffix" for name in everything).most_common(6)
    wanted = {"docs": "document", "python": "Python file"}.get(format, "file")
    raise DataError(
        f"data.path: there is no {wanted} to learn from below {root}; "
        f"found: {', '.join(f'{count} {suffix}' for suffix, count in found_suffixes) or 'nothing'}",
        _other_choice(everything, format) or f"read are {_listed(kinds)}",
    )


def _require_readable(root: Path, names: list[str]) -> None:
    """No file that may hold rows stands unread beside those that are read."""
    unread = sorted({*_ending(_names(root, own=False), UNREAD)} - {*names})
    if names and unread:
        raise DataError(
            f"data.path: {unread[0]} in {root} may hold rows, but '{Path(unread[0]).suffix}' files are not read",
            "convert it, move it away, or name the files that are meant in data.sources",
        )


def _names(root: Path, own: bool) -> list[str]:
    """All files below a folder that are not hidden, named from there; with `own` only the project's own."""
    found: list[str] = []
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".") and not (own and _foreign(folder, name))]
        paths = (Path(folder, name) for name in files if not name.startswith("."))
        found += [path.relative_to(root).as_posix() for path in paths if path.is_file()]  # a link may lead nowhere
    return found


def _foreign(folder: str, name: str) -> bool:
    """Whether a folder below holds copies or somebody else's files, such as a virtual environment."""
    return name in NOT_ITS_OWN or os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))


def _ending(names: Sequence[str], suffixes: tuple[str, ...]) -> list[str]:
    """The names that end in a suffix, sorted."""
    return sorted(name for name in names if name.lower().endswith(suffixes))


def _other_choice(names: Sequence[str], format: str) -> str:
    """A hint on the choice of `data=` that would read some of the files."""
    for choice in ("auto", "docs", "python"):
        if choice != format and any(_ending(names, suffixes) for suffixes in _kinds(choice).values()):
            return f"take data={choice} for what is there"
    return ""


def _listed(kinds: Mapping[str, tuple[str, ...]]) -> str:
    return " ".join(suffix for suffixes in kinds.values() for suffix in suffixes)
