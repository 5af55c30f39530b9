"""What to learn from: where the rows of a data set are, how they are read, and how several make one recipe."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sft_runner.data.readers.file import SUFFIXES
from sft_runner.importing.draft import NOT_CARRIED, Draft, unsafe

HELD_OUT = 0.1
"""Share of the rows kept away where the other program keeps none."""
LONGEST_ROW = 1_000_000
"""Characters of a row that are looked at."""
HUB = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
BUILDERS = ("json", "csv", "parquet", "text", "arrow")
"""What `datasets` calls a kind of file, where `data_files` has its name."""


@dataclass
class Rows:
    """One data set, as it is written into `data.path` or `data.sources`."""

    name: str
    """Its key in `data.sources`."""
    path: str
    """A file, a folder, or an address; empty where it is not known."""
    format: str = "auto"
    """How a row becomes messages."""
    columns: dict[str, str] = field(default_factory=dict)
    """The format's column -> the file's."""
    limits: dict[str, Any] = field(default_factory=dict)
    """`limit`, `cap`, `weight`."""


def place(draft: Draft, all_rows: Sequence[Rows]) -> None:
    """Write data sets into the recipe: one as `data.path`, several as `data.sources`."""
    known = [_safe(draft, rows) for rows in all_rows if rows.path]
    if not known:
        draft.todo.append("name the data: data.path=FILE")
    if len(known) == 1 and known[0].limits.keys() <= {"limit"}:
        (rows,) = known
        draft.settings["data.path"] = rows.path
        if rows.format != "auto":
            draft.choices["data"] = rows.format
        if rows.columns:
            draft.settings["data.columns"] = rows.columns
        if rows.limits:
            draft.settings["data.limit"] = rows.limits["limit"]
    elif known:
        draft.settings["data.sources"] = sources(known)


def sets(draft: Draft, all_rows: Sequence[Rows]) -> None:
    """Write data sets that are only scored."""
    if known := [_safe(draft, rows) for rows in all_rows if rows.path]:
        draft.settings["evaluate.sets"] = {name: entry | {"limit": None} for name, entry in sources(known).items()}


def sources(all_rows: Sequence[Rows]) -> dict[str, Any]:
    """The entries of `data.sources`, each under a name of its own."""
    found: dict[str, Any] = {}
    for rows in all_rows:
        name, number = rows.name, 1
        while name in found:
            number += 1
            name = f"{rows.name}-{number}"
        entry: dict[str, Any] = {"path": rows.path}
        if rows.format != "auto":
            entry["format"] = rows.format
        found[name] = entry | ({"columns": rows.columns} if rows.columns else {}) | rows.limits
    return found


def _safe(draft: Draft, rows: Rows) -> Rows:
    """The data set without columns that would be read as references."""
    if unsafe(rows.columns):
        draft.todo.append(f"the columns of {rows.path} hold ${{...}}: set data.columns")
        return replace(rows, columns={})
    return rows


def named(text: str) -> str:
    """A name for `data.sources` from a path or an id."""
    stem = Path(text.rstrip("/")).name
    for suffix in SUFFIXES:
        stem = stem.removesuffix(suffix)
    return re.sub(r"[^\w-]+", "-", stem).strip("-_") or "rows"


def local(path: str, beside: Path) -> str | None:
    """The path of something on this machine, looked for from here and beside the file; None where it is not there."""
    for base in (Path(), beside) if path else ():
        try:
            found = base / Path(path).expanduser()
            if found.exists():
                return str(found)
        except (OSError, ValueError, RuntimeError):  # too long, a null byte, no such user
            continue
    return None


def address(draft: Draft, path: str, beside: Path, revision: str = "", glob: str = "") -> str:
    """Where the rows are, in our words; empty for what cannot be read. What is left to do is noted."""
    if unsafe(path) or unsafe(glob):
        draft.todo.append(f"{path} holds ${{...}}, which would be read as a reference here: set data.path")
        return ""
    if found := local(path, beside):
        return found
    if re.match(r"\w+://", path):
        draft.todo.append(f"{path} cannot be read from there: fetch it, and set data.path to the file")
        return ""
    if HUB.fullmatch(path) and not path.lower().endswith(SUFFIXES):
        return _hub(draft, path, revision, glob)
    draft.todo.append(f"there is no {path} here yet: put it there, or set data.path to where it is")
    return path


def columns_of(path: str) -> set[str]:
    """The columns of the first row of JSON lines on this machine; empty where they are not seen."""
    place = Path(path)
    try:
        files = sorted(place.glob("*.jsonl")) if place.is_dir() else [place] if place.suffix == ".jsonl" else []
        with open(files[0], encoding="utf-8-sig") as file:
            row = json.loads(file.readline(LONGEST_ROW))
    except (IndexError, OSError, ValueError, RecursionError):
        return set()
    return set(row) if isinstance(row, dict) else set()


def _hub(draft: Draft, name: str, revision: str, glob: str) -> str:
    """`hf://datasets/OWNER/NAME@COMMIT`; the commit that the file names, or that the local cache knows."""
    from sft_runner.data.sources.address import address_of
    from sft_runner.errors import DataError

    start = f"hf://datasets/{name}"
    commit = revision if re.fullmatch(r"[0-9a-f]{40}", revision) else ""
    if not commit:
        try:
            address_of(f"{start}@{(revision or 'main').replace('/', '%2F')}")
        except DataError as error:  # its hint names the commit that the cache has
            found = re.search(r"@([0-9a-f]{40})", error.hint)
            commit = found[1] if found else ""
    if not commit:
        todo = f"pin the commit of the data set {name}: {start}@COMMIT in data.path, or name a file of your own"
        draft.todo.append(todo)
    return start + (f"@{commit}" if commit else "") + (f"/{glob}" if glob else "")


def held_out(draft: Draft, key: str) -> None:
    """Rows that are kept away from training; here some are needed, or nothing could be scored."""
    value = draft.number(key)
    if not draft.has(key):
        draft.assume("data.held_out", HELD_OUT, f"{draft.program} keeps none away; without any nothing can be scored")
    elif value is None or value < 0 or (value > 1 and value % 1):
        draft.told(NOT_CARRIED, key, "is no share and no number of rows; set data.held_out")
    elif value == 0:
        draft.changed(key, "data.held_out", HELD_OUT, "0 there: here some rows are kept away, or nothing can be scored")
    else:
        draft.carried(key, "data.held_out", int(value) if value >= 1 else value)
