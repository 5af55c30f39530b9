"""What to learn from: where the rows of a data set are, how they are read, and how several make one recipe."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from sft_runner.data.readers.file import SUFFIXES
from sft_runner.importing.draft import NOT_CARRIED, Assumed, Draft, hidden, secret, typed, unsafe

HELD_OUT = 0.1
"""Share of the rows kept away where the other program keeps none."""
LONGEST_ROW = 1_000_000
"""Characters of a row, or of a JSON file, that are looked at."""
FIRST = 50
"""Rows that are looked at."""
NOTHING = "{{ '' }}"
"""A column with nothing in it, in Jinja."""
_PARTS = ("path", "format", "columns", "limit", "cap", "weight")
"""What is said of one data set."""
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
    keys: tuple[str, ...] = ()
    """The keys that said so: a name, or with a dot at its end how names begin. A finding of theirs that became `path`,
    `format`, `limit`, or `columns.messages`, is given its whole name and value once the data set has its place."""

    def said_by(self, key: str) -> bool:
        """Whether a key of the other program speaks of this data set."""
        return any(key.startswith(own) if own.endswith(".") else key == own for own in self.keys)


def place(draft: Draft, all_rows: Sequence[Rows]) -> None:
    """Write data sets into the recipe: one as `data.path`, several as `data.sources`."""
    known = [_safe(draft, rows) for rows in all_rows if rows.path]
    single = len(known) == 1 and known[0].limits.keys() <= {"limit"}
    if not known:
        draft.to_do("name the data: data.path=FILE")
    _name(draft, all_rows, known, "data" if single else "data.sources")
    if single:
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


def sets(draft: Draft, all_rows: Sequence[Rows], limit: int | None = None) -> None:
    """Write data sets that are only scored, the first rows of each where there is a `limit`."""
    known = [_safe(draft, rows) for rows in all_rows if rows.path]
    _name(draft, all_rows, known, "evaluate.sets")
    if known:
        draft.settings["evaluate.sets"] = {
            name: {**entry, "limit": entry.get("limit", limit)} for name, entry in sources(known).items()
        }


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


def _name(draft: Draft, all_rows: Sequence[Rows], known: Sequence[Rows], base: str) -> None:
    """Say in the findings about data sets what their place in the recipe is, now that they have one."""
    places = [base] * len(known) if base == "data" else [f"{base}.{name}" for name in sources(known)]
    for index, finding in enumerate(draft.findings):
        part, _, inner = finding.ours.partition(".")
        mine = part in _PARTS and "=" not in finding.ours and any(rows.said_by(finding.key) for rows in all_rows)
        if not mine:
            continue
        became = []
        for where, rows in zip(places, known, strict=True):
            value = {"path": rows.path, "format": rows.format, "columns": rows.columns, **rows.limits}.get(part)
            if rows.said_by(finding.key) and value is not None:
                value = value.get(inner) if isinstance(value, dict) and inner else value
                became.append(f"{where}.{finding.ours}={typed(value)}")
        if became:
            draft.findings[index] = replace(finding, ours=hidden("; ".join(became)))
        else:
            lost = "its rows cannot be read from there"
            draft.findings[index] = replace(finding, kind=NOT_CARRIED, ours="", note=lost)
    for where, rows in zip(places, known, strict=True):
        if away := [column for column, value in rows.columns.items() if value == NOTHING]:
            note = f"{draft.program} does not read {', '.join(away)}"
            draft.assumed.append(Assumed(f"{where}.columns", rows.columns, note))
            draft.comments.setdefault(f"{where}.columns", note)


def _safe(draft: Draft, rows: Rows) -> Rows:
    """The data set without columns that would be read as references."""
    if unsafe(rows.columns):
        draft.to_do(f"the columns of {rows.path} hold ${{...}}: set data.columns")
        return replace(rows, columns={})
    if secret(rows.columns):
        draft.to_do(f"the columns of {rows.path} hold what looks like a secret: set data.columns")
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
        draft.to_do(f"{path} holds ${{...}}, which would be read as a reference here: set data.path")
        return ""
    if secret(path):
        draft.to_do(f"{path} holds what looks like a secret: fetch it, and set data.path to the file")
        return ""
    if found := local(path, beside):
        return found
    if re.match(r"\w+://", path):
        draft.to_do(f"{path} cannot be read from there: fetch it, and set data.path to the file")
        return ""
    if HUB.fullmatch(path) and not path.lower().endswith(SUFFIXES):
        return _hub(draft, path, revision, glob)
    draft.to_do(f"there is no {path} here yet: put it there, or set data.path to where it is")
    return path


def first_rows(path: str) -> list[dict[str, Any]]:
    """The first rows of JSON or JSON lines on this machine; none where they are not seen."""
    place = Path(path)
    try:
        files = sorted(place.glob("*.jsonl")) if place.is_dir() else [place]
        with open(files[0], encoding="utf-8-sig") as file:
            if files[0].suffix == ".jsonl":
                rows = [
                    json.loads(line)
                    for line in islice(iter(lambda: file.readline(LONGEST_ROW), ""), FIRST)
                    if line.strip()
                ]
            else:
                text = file.read(LONGEST_ROW + 1) if files[0].suffix == ".json" else ""
                rows = json.loads(text) if len(text) <= LONGEST_ROW else []
    except (IndexError, OSError, ValueError, RecursionError):
        return []
    return [row for row in rows[:FIRST] if isinstance(row, dict)] if isinstance(rows, list) else []


def files(value: Any, split: str = "train") -> list[str]:
    """`data_files`: a file, several, or those of each split, of which one is taken."""
    if isinstance(value, dict):
        value = value.get(split or "train")
    return [str(file) for file in (value if isinstance(value, list) else [value]) if file]


def columns_of(path: str) -> set[str]:
    """The columns of the first rows on this machine; empty where they are not seen."""
    return {column for row in first_rows(path) for column in row}


def unread(path: str, columns: dict[str, str], optional: Iterable[str]) -> dict[str, str]:
    """Columns that a format would read and the other program does not: nothing stands in them here."""
    seen = columns_of(path)
    return {name: NOTHING for name in optional if name not in columns and (not seen or name in seen)}


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
        draft.to_do(todo)
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
