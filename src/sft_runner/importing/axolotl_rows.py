"""axolotl's `datasets`: a path and a `type` each, and the names of the fields."""

import re
from pathlib import Path
from typing import Any

from sft_runner.data.formats import FORMATS
from sft_runner.data.formats.turn import ROLES
from sft_runner.importing.axolotl_prompt import own_prompt
from sft_runner.importing.draft import CHANGED, NO_EFFECT, NOT_CARRIED, Draft, notes, unsafe
from sft_runner.importing.jinja import turns
from sft_runner.importing.rows import BUILDERS, Rows, address, files, local, named, place, sets, unread

ALPACA = "there the Alpaca prompt is written, here the model's own chat template; data.template=sage_alpaca is near it"
ORCA = {"instruction": "question", "output": "response", "system": "system_prompt"}
TYPES: dict[str, tuple[str, dict[str, str], str]] = {
    "alpaca": ("alpaca", {}, "input"),
    "alpaca_instruct": ("alpaca", {}, "input"),
    "alpaca_chat": ("alpaca", {}, "input"),
    "alpaca_w_system": ("alpaca", {}, "input system"),
    "alpaca_w_system.load_open_orca": ("alpaca", ORCA, ""),
    "alpaca_w_system.load_open_orca_chatml": ("alpaca", ORCA, ""),
    "alpaca_chat.load_qa": ("qa", {}, ""),
    "gpteacher": ("alpaca", {"output": "response"}, "input"),
    "oasst": ("alpaca", {"instruction": "INSTRUCTION", "output": "RESPONSE"}, ""),
    "context_qa.load_v2": ("qa", {}, "context"),
    "metharme": ("prompt_completion", {"completion": "generation"}, ""),
    "sharegpt": ("conversations", {}, "system tools functions"),
    "chat_template": ("messages", {}, "system tools functions"),
    "completion": ("text", {}, ""),
    "pretrain": ("text", {}, ""),
}
"""`type`, before a colon and a style of its prompt -> our format, its columns, and what more of them is read there."""
OPTIONAL = {
    "alpaca": ("input", "system", "history"),
    "qa": ("context", "system"),
    "prompt_completion": ("system", "tools", "functions"),
}
"""Columns that our formats read where they are there."""
ROWS_NO_EFFECT = notes(
    {
        "found by the file's name": "ds_type input_format",
        "the row says it: reasoning_content beside content, or data.reasoning": "field_thinking template_thinking_key "
        "split_thinking",
        "the whole file is read": "preprocess_shards",
        "no script of a data set is ever run": "trust_remote_code",
    }
)
ROWS_NOT_CARRIED = notes(
    {
        "all rows are read; data.limit or cap takes fewer": "shards shards_idx skip",
        "a subset is a folder of the data set: hf://datasets/OWNER/NAME@COMMIT/SUBSET/*": "name",
        "turns carry loss as a whole: a message says `train: false`": "message_field_training_detail",
        "remove the system turn from the rows": "drop_system_message",
        "no such thing here": "input_transform conversation logprobs_field temperature field_human field_model",
        "the model's own template is used for all rows; see data.template": "chat_template_jinja",
    }
)
MESSAGE = "a message has role and content, or from and value"
PARTS = ("role", "content")
_SLICE = re.compile(r"([\w.-]+)\[:(\d+)\]")


def datasets(draft: Draft, beside: Path) -> None:
    """All data sets: those that are learned, and those that are only scored."""
    for key, put in (("datasets", place), ("pretraining_dataset", place), ("test_datasets", sets)):
        count = len({name.partition("]")[0] for name in draft.given if name.startswith(f"{key}[")})
        if not count:
            if draft.has(key):
                draft.told(NOT_CARRIED, key, "is no list of data sets; set data.path")
            if key == "datasets" and "pretraining_dataset[0].path" not in draft.given:
                put(draft, [])
            continue
        put(draft, [rows for index in range(count) for rows in _dataset(draft, f"{key}[{index}].", beside)])
        if key == "datasets":
            _same_loss(draft, count)
        if key == "pretraining_dataset":
            draft.settings["data.train_on"] = "all"


def _dataset(draft: Draft, at: str, beside: Path) -> list[Rows]:
    """One entry; several files make several."""
    format, columns, read = _type(draft, at)
    if format == "messages" and draft.value(at + "field_messages") == "conversations":
        format = "conversations"
    _fields(draft, at, format, columns)
    _loss(draft, at)
    found = []
    for path in _paths(draft, at, beside) or [""]:
        away = unread(path, columns, [name for name in OPTIONAL.get(format, ()) if name not in read.split()])
        found.append(Rows(named(path), path, format, {**columns, **away}, _limits(draft, at), (at,)))
    _split(draft, at, found[0].path)
    draft.table(NO_EFFECT, {at + name: note for name, note in ROWS_NO_EFFECT.items()})
    draft.table(NOT_CARRIED, {at + name: note for name, note in ROWS_NOT_CARRIED.items()})
    template = at + "chat_template"
    if draft.has(template):
        own = draft.value(template) == "tokenizer_default"
        note = "the model's own chat template is used" + ("" if own else f", not {draft.value(template)}")
        draft.told(NO_EFFECT if own else CHANGED, template, note, "" if own else "data.template=model")
    return found


def _paths(draft: Draft, at: str, beside: Path) -> list[str]:
    """Where the rows are."""
    split = str(draft.value(at + "split", "train")).partition("[")[0]
    path, listed = str(draft.value(at + "path", "")), files(draft.value(at + "data_files"), split)
    globs = listed or ([f"*{split}*"] if split not in ("train", "") else [""])
    revision = str(draft.value(at + "revision", ""))
    if path in BUILDERS:
        found = [address(draft, file, beside) for file in listed]
    elif listed and (folder := local(path, beside)) and Path(folder).is_dir():
        found = [address(draft, f"{path}/{file}", beside) for file in listed]
    else:
        found = [address(draft, path, beside, revision, glob) for glob in globs]
    for name in ("path", "data_files"):
        if draft.has(at + name):
            draft.told("carried", at + name, "", "path")
    if draft.has(at + "revision"):
        pinned = any(revision in address for address in found)
        note = "the data set is pinned to a commit" if pinned else "a branch or a tag moves: pin a commit in data.path"
        draft.told("carried" if pinned else NOT_CARRIED, at + "revision", note, "path" if pinned else "")
    return found


def _limits(draft: Draft, at: str) -> dict[str, Any]:
    """The first rows of a split, where it says so."""
    match = _SLICE.fullmatch(str(draft.value(at + "split", "")))
    return {"limit": int(match[2])} if match and int(match[2]) else {}


def _split(draft: Draft, at: str, path: str) -> None:
    """`train`, the first rows of it, or another one."""
    split = str(draft.value(at + "split", ""))
    if not draft.has(at + "split"):
        return
    if _limits(draft, at):
        draft.told("carried", at + "split", "the first rows", "limit")
    elif "[" in split or "+" in split:
        draft.told(NOT_CARRIED, at + "split", "no such part of a split here; see data.limit and cap")
        draft.to_do(f"{at}split takes a part of the rows, here all are read: set data.limit, or cap for the source")
    elif split == "train":
        draft.told(NO_EFFECT, at + "split", "where a data set has several splits, data.path names one")
    elif path.startswith("hf://"):
        draft.told(CHANGED, at + "split", "for a data set of the hub it is a glob behind the commit", "path")
    else:
        draft.told(NOT_CARRIED, at + "split", "files of this machine have no splits: all of their rows are read")


def _type(draft: Draft, at: str) -> tuple[str, dict[str, str], str]:
    """Our format for a `type`, the columns that it reads, and which more of ours are read there."""
    if any(key.startswith(f"{at}type.") for key in draft.given):
        return *own_prompt(draft, f"{at}type."), "input"
    name = str(draft.value(at + "type", ""))
    format, columns, read = TYPES.get(name.partition(":")[0].removesuffix(".load"), ("auto", {}, ""))
    if draft.has(at + "type"):
        if format == "auto":
            draft.told(NOT_CARRIED, at + "type", "no such format here: the rows' columns say it; see data.columns")
            draft.to_do(f"{at}type={name} was not carried over: look with preview what rows become, or set data.format")
        elif format in ("alpaca", "qa") and "chat" not in name:
            draft.told(CHANGED, at + "type", ALPACA, "format")
        else:
            draft.told("carried", at + "type", "", "format")
    return format, dict(columns), read


def _fields(draft: Draft, at: str, format: str, columns: dict[str, str]) -> None:
    """The names of columns. What the rows' format does not read is not carried over."""
    typed = any(key.startswith(f"{at}type") for key in draft.given)
    read = FORMATS[format].known() if format in FORMATS else set() if typed else {"text", "tools"}
    for key, column in (
        ("field_messages", format),
        ("field", "text"),
        ("text_column", "text"),
        ("field_tools", "tools"),
    ):
        if not draft.has(at + key):
            continue
        name = str(draft.value(at + key))
        if unsafe(name):
            draft.told(NOT_CARRIED, at + key, "holds ${...}, which would be read as a reference here")
        elif column not in read:
            draft.told(NOT_CARRIED, at + key, "rows of this type have no such column here; see data.columns")
            draft.to_do(f"{at}{key}={name} was not carried over: look with preview what rows become")
        elif name == column:
            draft.told(NO_EFFECT, at + key, "called so here too")
        else:
            columns[column] = name
            draft.told("carried", at + key, "", f"columns.{column}")
    _turns(draft, at, format, columns)


def _turns(draft: Draft, at: str, format: str, columns: dict[str, str]) -> None:
    """The names of the parts of a message, and of roles: those that are not known here are written in Jinja."""
    mapping, said = draft.value(at + "message_property_mappings"), draft.value(at + "roles")
    parts = {**mapping} if isinstance(mapping, dict) else {}
    parts |= {name: value for name in PARTS if (value := draft.value(f"{at}message_field_{name}"))}
    pair = [str(parts.get(name) or name) for name in PARTS]
    odd = pair not in (["from", "value"], ["role", "content"])
    owners = {str(own): str(role) for role, owns in said.items() for own in _listed(owns)} if _is_map(said) else {}
    roles = {own: role for own, role in owners.items() if ROLES.get(own) != ROLES.get(role, "")}
    whole = _is_map(mapping) and all(name in PARTS or name == own for name, own in mapping.items())
    plain = (whole or mapping is None) and (_is_map(said) or said is None)
    turned = plain and format in ("messages", "conversations") and not unsafe([*pair, roles])
    turned = turned and all(role in ROLES for role in roles.values())
    if turned and (odd or roles):
        columns[format] = turns(columns.get(format, format), pair if odd else (), roles)
    for key, known, note in (
        ("message_property_mappings", whole and not odd, MESSAGE),
        ("message_field_role", not odd, MESSAGE),
        ("message_field_content", not odd, MESSAGE),
        ("roles", not roles and _is_map(said), f"roles are {', '.join(ROLES)}"),
    ):
        if not draft.has(at + key):
            continue
        if known:
            draft.told(NO_EFFECT, at + key, f"these names are known: {note}")
        elif turned:
            draft.told("carried", at + key, "renamed by Jinja", f"columns.{format}")
        else:
            draft.told(NOT_CARRIED, at + key, f"{note}: rename them in the rows")
            draft.to_do(f"{at}{key} was not carried over: rename them in the rows, or write data.columns")


def _is_map(said: Any) -> bool:
    return isinstance(said, dict)


def _listed(said: Any) -> list[Any]:
    return said if isinstance(said, list) else [] if said is None else [said]


def _loss(draft: Draft, at: str) -> None:
    """Which turns carry loss."""
    _roles(draft, at + "roles_to_train")
    if draft.has(at + "train_on_eos"):
        same = draft.value(at + "train_on_eos") == "turn"
        note = "each answer is learned with its end" + ("" if same else "; there is no other choice")
        draft.told(NO_EFFECT if same else NOT_CARRIED, at + "train_on_eos", note)
    if draft.has(at + "message_field_training"):
        same = draft.value(at + "message_field_training") in ("train", "weight")
        note = "read as it is" if same else "a message says it by `train` or `weight`: rename it in the rows"
        draft.told(NO_EFFECT if same else NOT_CARRIED, at + "message_field_training", note)


def _roles(draft: Draft, key: str) -> None:
    """Whose turns carry loss. `train_on_inputs` has all of them carry it, whatever is said here."""
    if not draft.has(key):
        return
    said = draft.value(key)
    trained = {ROLES.get(str(role), str(role)) for role in _listed(said)}
    if key.startswith("test"):
        draft.told(NO_EFFECT, key, "data.train_on says for all rows which tokens carry loss")
    elif draft.flag("train_on_inputs"):
        draft.told(NO_EFFECT, key, "train_on_inputs: all turns carry loss")
    elif trained == {"assistant"}:
        draft.carried(key, "data.train_on", "assistant")
    elif "assistant" in trained:
        draft.changed(key, "data.train_on", "all", "all tokens: assistant turns, or everything")
    else:
        draft.told(NOT_CARRIED, key, "assistant turns carry loss, or everything: data.train_on")


def _same_loss(draft: Draft, count: int) -> None:
    """What carries loss is said for all data sets here; those that say nothing learn the answers there."""
    silent = [index for index in range(count) if f"datasets[{index}].roles_to_train" not in draft.given]
    if draft.settings.get("data.train_on") == "all" and silent and not draft.flag("train_on_inputs"):
        draft.to_do("data.train_on=all is said for all rows, and by one of the data sets there: set what is meant")
