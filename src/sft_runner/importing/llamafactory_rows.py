"""LLaMA-Factory's data sets: names in `dataset`, explained by a dataset_info.json."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sft_runner.data.formats.turn import CALLING, ROLES
from sft_runner.importing.draft import CARRIED, CHANGED, NO_EFFECT, NOT_CARRIED, UNKNOWN, Draft, Finding, hidden, unsafe
from sft_runner.importing.jinja import turns
from sft_runner.importing.rows import NOTHING, Rows, address, local, named, place, sets, unread
from sft_runner.importing.training import counted

INFO = "dataset_info.json"
COLUMNS = {"prompt": "instruction", "query": "input", "response": "output", "history": "history", "system": "system"}
"""Its column of the format alpaca -> ours."""
READ = {
    "alpaca": ("input", "history", "system"),
    "messages": ("system", "tools", "functions"),
    "conversations": ("system", "tools", "functions"),
    "preference": ("system", "tools", "functions"),
}
"""Columns that our formats read where they are there, and LLaMA-Factory only where they are named."""
TAGS = {"user_tag": "user", "assistant_tag": "assistant", "observation_tag": "tool", "function_tag": CALLING,
        "system_tag": "system"}  # fmt: skip
"""Its name of a role -> the role."""
ENTRY = ("formatting", "ranking", "subset", "split", "folder", "num_samples", "columns", "tags", "file_name",
         "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")  # fmt: skip
"""Keys of one data set."""


def datasets(draft: Draft, beside: Path, folders: Sequence[Path]) -> None:
    """What is learned, what is only scored, and how they are mixed."""
    info, folder = _info(draft, beside, folders)
    online = draft.value("dataset_dir") == "ONLINE"
    limit = draft.number("max_samples")
    for key in ("dataset", "eval_dataset"):
        names = _names(draft.value(key))
        found = [rows for name in names for rows in _dataset(draft, name, info, folder, beside, online)]
        for rows in found:
            rows.keys += (key,)
        if draft.has(key):
            if found:
                kind = CARRIED if len(found) == len(names) else CHANGED
                draft.told(kind, key, f"{len(found)} of {counted(len(names), 'data set')}", "path")
            else:
                draft.told(NOT_CARRIED, key, f"no {INFO} explains it; name the folder with --dataset-dir")
        if key == "dataset":
            place(draft, found)
        elif names:
            sets(draft, found, int(limit) if limit and limit >= 1 else None)
    if draft.has("dataset_dir"):
        draft.told(NO_EFFECT, "dataset_dir", f"where {INFO} was looked for")
    if draft.has("mix_strategy"):
        same = draft.value("mix_strategy") == "concat"
        note = "all rows are mixed" if same else "all rows are mixed; weight in data.sources learns some more often"
        draft.told(NO_EFFECT if same else NOT_CARRIED, "mix_strategy", note)
    if draft.has("interleave_probs"):
        draft.told(NOT_CARRIED, "interleave_probs", "give the sources a weight: copies of their rows in an epoch")
    _system(draft)


def _info(draft: Draft, beside: Path, folders: Sequence[Path]) -> tuple[Mapping[str, Any], Path]:
    """The explanations, and the folder that their file names start at."""
    said = str(draft.value("dataset_dir", "data"))
    usual = [Path(said), beside / said, beside, beside / "data", beside.parent / said, beside.parent / "data"]
    for folder in (*folders, *usual):
        try:
            found = json.loads((folder / INFO).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return found, folder
    return {}, Path(said)


def _names(value: Any) -> list[str]:
    listed = value if isinstance(value, list) else str(value or "").split(",")
    return [str(name).strip() for name in listed if str(name).strip()]


def _dataset(draft: Draft, name: str, info: Mapping[str, Any], folder: Path, beside: Path, online: bool) -> list[Rows]:
    """One data set; none where nothing explains it. Its entry is told of as `dataset_info.json: NAME.key`."""
    if online and name not in info:
        return [Rows(named(name), address(draft, name, beside))]
    entry = info.get(name)
    if not isinstance(entry, dict):
        draft.to_do(f"the data set '{name}' stands in no {INFO} that was found: set data.path to its file")
        return []
    told = _Told(draft, name)
    path = _path(draft, entry, folder, told)
    if draft.value("stage") == "pt":
        asked = _question(entry)
        format, columns = "text", {} if asked == "text" else {"text": asked}
    else:
        format, columns = _format(entry, told)
        columns |= unread(path, columns, [column for column in READ[format] if column not in _named(entry)])
    limits = _samples(entry, path, told)
    if entry.get("split") not in (None, "train"):
        told.say(NOT_CARRIED, "split", "name the files of the split in the path")
    for key in ("subset", "folder"):
        if entry.get(key):
            told.say(NOT_CARRIED, key, "name the files in the path: hf://datasets/OWNER/NAME@COMMIT/SUBSET/*")
    for key in entry.keys() - set(ENTRY):
        told.say(UNKNOWN, key, f"no key of {INFO}")
    if unsafe([path, columns]):
        told.say(NOT_CARRIED, "columns", "holds ${...}, which would be read as a reference here")
        columns = {}
    return [Rows(named(name), path, format, columns, limits, (told.at,))] if path and not unsafe(path) else []


def _said(entry: Mapping[str, Any]) -> dict[str, str]:
    """Its column -> the file's; where columns are named, those that are not have nothing in them."""
    said = entry.get("columns")
    return {str(key): str(value) for key, value in said.items() if value} if isinstance(said, dict) else {}


def _named(entry: Mapping[str, Any]) -> set[str]:
    """Our columns that are read there."""
    if isinstance(entry.get("columns"), dict):
        return {COLUMNS.get(key, key) for key in _said(entry)}
    return {"input"}


def _question(entry: Mapping[str, Any]) -> str:
    """The text of pretraining: what would be asked, with its input behind it."""
    said = _said(entry) if isinstance(entry.get("columns"), dict) else {"prompt": "instruction", "query": "input"}
    if "query" not in said:
        return said.get("prompt", "instruction")
    parts = ", ".join(
        f"row.get({json.dumps(said[key], ensure_ascii=False)})" for key in ("prompt", "query") if key in said
    )
    return f"{{{{ [{parts}] | select | join('\\n') }}}}"


def _samples(entry: Mapping[str, Any], path: str, told: "_Told") -> dict[str, Any]:
    """So many rows: fewer than there are, or some of them again."""
    wanted = entry.get("num_samples")
    if not isinstance(wanted, int) or wanted <= 0:
        return {}
    rows = _rows(path)
    if rows and wanted > rows:
        told.say(CHANGED, "num_samples", f"copies of {counted(rows, 'row')}", "weight")
        return {"weight": round(wanted / rows, 6)}
    told.say(CHANGED, "num_samples", "drawn by data.seed; where there are fewer, some are taken again there", "cap")
    return {"cap": wanted}


def _rows(path: str) -> int:
    """Rows of JSON lines on this machine; 0 where they are not counted."""
    try:
        with open(path, "rb") as file:
            return sum(bool(line.strip()) for line in file) if path.endswith(".jsonl") else 0
    except OSError:
        return 0


class _Told:
    """Findings about one entry of dataset_info.json."""

    def __init__(self, draft: Draft, name: str) -> None:
        self.draft, self.name, self.at = draft, name, f"{INFO}: {name}."

    def say(self, kind: str, key: str, note: str, ours: str = "") -> None:
        """One key of it; an entry that is read twice is told of once."""
        found = Finding(self.at + key, "", kind, hidden(ours), hidden(note))
        if all(one.key != found.key for one in self.draft.findings):
            self.draft.findings.append(found)


def _path(draft: Draft, entry: dict[str, Any], folder: Path, told: _Told) -> str:
    """Where the rows are."""
    if file := entry.get("file_name"):
        path = folder / str(file)
        return local(str(path), Path()) or address(draft, str(path), Path())
    if hub := entry.get("hf_hub_url"):
        return address(draft, str(hub), folder)
    where = next(
        (key for key in ("ms_hub_url", "om_hub_url", "script_url", "cloud_file_name") if key in entry), "file_name"
    )
    told.say(NOT_CARRIED, where, "fetch it, and name the file in data.path; no script of a data set is ever run")
    draft.to_do(f"fetch the data set '{told.name}', and set data.path to its file")
    return ""


def _format(entry: dict[str, Any], told: _Told) -> tuple[str, dict[str, str]]:
    """Our format, and the columns that are called otherwise."""
    kind = entry.get("formatting", "alpaca")
    said = _said(entry)
    for key in [key for key in said if key in ("images", "videos", "audios", "kto_tag")]:
        told.say(NOT_CARRIED, f"columns.{key}", "only text is learned here")
        del said[key]
    if entry.get("ranking"):
        told.say(CHANGED, "ranking", "the chosen answer is learned", "format")
        _tags(entry, told, "", "")
        names = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected", "messages": "prompt"}
        return "preference", {names[key]: value for key, value in said.items() if names.get(key, value) != value}
    if kind == "alpaca":
        return "alpaca", {COLUMNS[key]: value for key, value in said.items() if COLUMNS.get(key, value) != value}
    usual = "messages" if said.get("messages") == "messages" else "conversations"
    columns = {"messages": usual, "system": "system", "tools": "tools"}
    found = {columns[key]: value for key, value in said.items() if columns.get(key, value) != value}
    named = found.get(usual, usual)
    if (written := _tags(entry, told, usual, named)) != named:
        found[usual] = written
    return usual, found


def _tags(entry: dict[str, Any], told: _Told, column: str, name: str) -> str:
    """The column of messages: `name`, or Jinja where their parts or roles have names that are not known here. An empty
    `column` stands for rows of several, in which nothing is renamed."""
    tags = entry.get("tags")
    tags = {key: str(value) for key, value in tags.items() if value} if isinstance(tags, dict) else {}
    pair = (tags.get("role_tag", ""), tags.get("content_tag", ""))
    usual = ("role", "content") if entry.get("formatting") == "openai" else ("from", "value")
    full = tuple(said or own for said, own in zip(pair, usual, strict=True))
    odd = full not in (("from", "value"), ("role", "content"))
    roles = {tags[key]: role for key, role in TAGS.items() if key in tags and ROLES.get(tags[key]) != ROLES[role]}
    renamed = [*(["tags"] if odd else []), *(f"tags.{key}" for key in TAGS if tags.get(key) in roles)]
    if not renamed:
        return name
    if column and not unsafe([*full, roles]):
        for key in renamed:
            told.say(CARRIED, key, "renamed by Jinja", f"columns.{column}")
        return turns(name, full if odd else (), roles)
    for key in renamed:
        told.say(NOT_CARRIED, key, "messages have from and value, or role and content: rename them in the rows")
    told.draft.to_do(f"the data set '{told.name}' names its messages otherwise ({', '.join(renamed)}): rename them")
    return name


def _system(draft: Draft) -> None:
    """One system text for all rows that have none."""
    if not draft.has("default_system"):
        return
    text = json.dumps(str(draft.value("default_system")), ensure_ascii=False)
    columns = dict(draft.settings.get("data.columns", {}))
    if columns.get("system") == NOTHING:
        del columns["system"]
        draft.settings["data.columns"] = columns
    if draft.choices.get("data") == "alpaca" and "system" not in columns and not unsafe(text):
        column = f"{{{{ system | default({text}) }}}}"
        draft.changed(
            "default_system", "data.columns", columns | {"system": column}, "a system text for rows without one"
        )
    else:
        hint = "write it into the rows, or for rows without a system turn into data.columns: {system: \"{{ 'TEXT' }}\"}"
        draft.told(NOT_CARRIED, "default_system", hint)
