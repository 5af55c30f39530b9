"""Which files of a place count, and what they are: rows, documents or code."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sft_runner.data.readers.file import SUFFIXES, suffix_of
from sft_runner.data.sources.address import Address
from sft_runner.data.sources.naming import name_below, shown
from sft_runner.errors import DataError

TABLES = (".arrow", ".avro", ".feather", ".h5", ".ods", ".orc", ".tsv", ".xls", ".xlsx")
UNREAD = (*TABLES, ".7z", ".bz2", ".gz", ".tar", ".xz", ".zip", ".zst")
"""Suffixes of files that may well hold rows, but are not read: passing over them would lose rows without a word."""
PAPERS = (".adoc", ".doc", ".docx", ".epub", ".ipynb", ".mdx", ".odp", ".odt", ".org", ".ppt", ".pptx", ".rtf", ".tex")
"""Suffixes of documents that are not read; pictures and the like beside documents are none."""
NOT_ITS_OWN = {
    "rows": frozenset[str](),
    "documents": frozenset({"node_modules", "site-packages"}),
    "code": frozenset({"__pycache__", "build", "dist", "node_modules", "site-packages"}),
}
"""Kind of content -> folders whose files are copies, made by tools, or somebody else's."""


@dataclass(frozen=True)
class Content:
    """The files of one source."""

    kind: str
    """`rows`, `documents` or `code`."""
    root: Path
    """The folder below which files are named."""
    files: tuple[Path, ...]
    """Absolute paths, sorted by name; at least one."""
    title: str
    """What the folder is called: by its own name, or the data set's or repository's."""
    single: bool = False
    """Whether the source is this one file."""
    skipped: tuple[str, ...] = ()
    """Names of documents that are not read."""

    def name(self, path: Path) -> str:
        """What a file is called in rows and messages."""
        return name_below(self.root, path)

    def digest(self, of: Callable[[Path], str]) -> str:
        """One hash for all that rows are made of: the files' own, given by `of`, and the names that are read too.

        One file of rows is the same whatever it is called; questions about documents and code say names.
        """
        if self.single and self.kind == "rows":
            named = [(suffix_of(self.files[0])[0], self.files[0])]
        else:
            named = [(self.name(path), path) for path in self.files]
        lines = sorted(f"{name}\0{of(path)}" for name, path in named)
        title = self.title if self.kind == "documents" else ""
        return hashlib.sha256("\n".join([self.kind, title, *lines]).encode()).hexdigest()


def content_of(address: Address, format: str) -> Content | None:
    """What is found at an address; None while it must be fetched. `format` is a value of `data.format`.

    Raises `DataError` for a file that is not read, and for a folder where nothing is.
    """
    place = address.place()
    if place is None:
        return None
    if place.is_dir():
        return _folder(place, address, format)
    if not place.is_file():
        raise DataError(f"data.path: {shown(str(place))} is neither a file nor a folder", "write the data to a file")
    return _file(place, format)


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
            return Content(kind, path.parent, (path,), shown(path.parent.name), single=True)
    raise DataError(
        f"data.path: {shown(path.name)}: '{shown(path.suffix)}' files are not read with data.format={format}, "
        f"but {_listed(kinds)}",
        _other_choice([path.name], format) or "convert it, for example to one JSON object a line",
    )


def _folder(root: Path, address: Address, format: str) -> Content:
    kinds = _kinds(format)
    for kind, suffixes in kinds.items():
        everything = _names(root, NOT_ITS_OWN[kind])
        names = _ending(everything, suffixes)
        if kind == "rows":
            found, names = names, sorted(address.chosen(names))
            if names == found:
                _require_readable(root, names)
        if names:
            skipped = _ending(everything, PAPERS) if kind == "documents" else []
            files = tuple(root / name for name in names)
            return Content(kind, root, files, shown(address.name), skipped=tuple(map(shown, skipped)))
    everything = _names(root)
    found_suffixes = Counter(shown(Path(name).suffix) or "without suffix" for name in everything).most_common(6)
    wanted = {"docs": "document", "python": "Python file"}.get(format, "file")
    raise DataError(
        f"data.path: there is no {wanted} to learn from below {shown(str(root))}; "
        f"found: {', '.join(f'{count} {suffix}' for suffix, count in found_suffixes) or 'nothing'}",
        _other_choice(everything, format) or f"read are {_listed(kinds)}",
    )


def _require_readable(root: Path, names: list[str]) -> None:
    """No file that may hold rows stands unread beside those that are read."""
    unread = sorted({*_ending(_names(root), UNREAD)} - {*names})
    if names and unread:
        raise DataError(
            f"data.path: {shown(unread[0])} in {shown(str(root))} may hold rows, "
            f"but '{Path(unread[0]).suffix}' files are not read",
            "convert it, move it away, or name the files that are meant in data.sources",
        )


def _names(root: Path, foreign: frozenset[str] = frozenset()) -> list[str]:
    """All files below a folder that are not hidden, named from there; without those in foreign folders, if any are."""
    found: list[str] = []
    for folder, below, files in os.walk(root):
        below[:] = [
            name for name in below if not name.startswith(".") and not (foreign and _foreign(folder, name, foreign))
        ]
        paths = (Path(folder, name) for name in files if not name.startswith("."))
        found += [path.relative_to(root).as_posix() for path in paths if path.is_file()]  # a link may lead nowhere
    return found


def _foreign(folder: str, name: str, foreign: frozenset[str]) -> bool:
    """Whether a folder below holds copies or somebody else's files, such as a virtual environment."""
    return name in foreign or os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))


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
