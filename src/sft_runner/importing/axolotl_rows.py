"""axolotl's `datasets`: a path and a `type` each, and the names of the fields."""

import re
from pathlib import Path
from typing import Any

from sft_runner.data.formats.turn import ROLES
from sft_runner.importing.draft import CHANGED, NO_EFFECT, NOT_CARRIED, Draft, notes, unsafe
from sft_runner.importing.rows import BUILDERS, Rows, address, local, named, place, sets

ALPACA = "there the Alpaca prompt is written, here the model's own chat template; data.template=sage_alpaca is near it"
TYPES: dict[str, tuple[str, dict[str, str]]] = {
    "alpaca": ("alpaca", {}),
    "alpaca_w_system": ("alpaca", {}),
    "gpteacher": ("alpaca", {"output": "response"}),
    "oasst": ("alpaca", {"instruction": "INSTRUCTION", "output": "RESPONSE"}),
    "alpaca_chat": ("alpaca", {}),
    "alpaca_chat.load_qa": ("qa", {}),
    "alpaca:chat": ("alpaca", {}),
    "context_qa.load_v2": ("qa", {}),
    "metharme": ("prompt_completion", {"completion": "generation"}),
    "sharegpt": ("conversations", {}),
    "chat_template": ("messages", {}),
    "completion": ("text", {}),
    "pretrain": ("text", {}),
}
"""`type`, or how it begins -> our format, and its columns."""
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
        if key == "pretraining_dataset":
            draft.settings["data.train_on"] = "all"


def _dataset(draft: Draft, at: str, beside: Path) -> list[Rows]:
    """One entry; several files make several."""
    limits = _split(draft, at)
    format, columns = _type(draft, at)
    if format == "messages" and draft.value(at + "field_messages") == "conversations":
        format = "conversations"
    _fields(draft, at, format, columns)
    _loss(draft, at)
    found = [Rows(named(path), path, format, columns, limits) for path in _paths(draft, at, beside)]
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
    path, files = str(draft.value(at + "path", "")), draft.value(at + "data_files")
    listed = [str(file) for file in (files if isinstance(files, list) else [files] if files else [])]
    split = str(draft.value(at + "split", "train")).partition("[")[0]
    globs = listed or ([f"*{split}*"] if split not in ("train", "") else [""])
    revision = str(draft.value(at + "revision", ""))
    if path in BUILDERS:
        found = [address(draft, file, beside) for file in listed]
    elif listed and (folder := local(path, beside)) and Path(folder).is_dir():
        found = [address(draft, f"{path}/{file}", beside) for file in listed]
    else:
        found = [address(draft, path, beside, revision, glob) for glob in globs]
    became = ", ".join(filter(None, found))
    ours = "evaluate.sets.*.path" if at.startswith("test") else "data.path"
    for name in ("path", "data_files"):
        if draft.has(at + name):
            if became:
                draft.told("carried", at + name, "", f"{ours}={became}")
            else:
                draft.told(NOT_CARRIED, at + name, "cannot be read from there; set data.path")
    if draft.has(at + "revision"):
        pinned = any(revision in address for address in found)
        note = "the data set is pinned to a commit" if pinned else "a branch or a tag moves: pin a commit in data.path"
        draft.told("carried" if pinned else NOT_CARRIED, at + "revision", note, f"{ours}={became}" if pinned else "")
    return found


def _split(draft: Draft, at: str) -> dict[str, Any]:
    """`train`, or the first rows of it."""
    split = str(draft.value(at + "split", ""))
    match = _SLICE.fullmatch(split)
    if draft.has(at + "split"):
        if match and int(match[2]):
            draft.told("carried", at + "split", "the first rows", f"data.limit={match[2]}")
            return {"limit": int(match[2])}
        if "[" in split or "+" in split:
            draft.told(NOT_CARRIED, at + "split", "no such part of a split here; see data.limit and cap")
        elif split == "train":
            draft.told(NO_EFFECT, at + "split", "where a data set has several splits, data.path names one")
        else:
            draft.told(CHANGED, at + "split", "for a data set of the hub it is a glob behind the commit", "data.path")
    return {}


def _type(draft: Draft, at: str) -> tuple[str, dict[str, str]]:
    """Our format for a `type`, and the columns that it reads."""
    said = draft.value(at + "type")
    if isinstance(said, dict):
        return _own_prompt(draft, at, said)
    name = str(said or "")
    parts = re.split(r"[.:]", name)
    format, columns = TYPES.get(name) or TYPES.get(parts[0], ("auto", {}))
    if draft.has(at + "type"):
        if format == "auto":
            draft.told(NOT_CARRIED, at + "type", "no such format here: the rows' columns say it; see data.columns")
        elif format in ("alpaca", "qa") and "chat" not in name:
            draft.told(CHANGED, at + "type", ALPACA, f"data.format={format}")
        else:
            draft.told("carried", at + "type", "", f"data.format={format}")
    return format, dict(columns)


def _own_prompt(draft: Draft, at: str, said: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """A prompt of the user's own: its text becomes Jinja over the file's columns."""
    field = {name: str(said.get(f"field_{name}") or name) for name in ("instruction", "input", "output", "system")}
    text = said.get("format") or said.get("no_input_format")
    if unsafe(said):
        draft.told(NOT_CARRIED, at + "type", "holds ${...}, which would be read as a reference here")
        return "auto", {}
    if not isinstance(text, str) or text.strip() == "{instruction}":
        columns = {name: field[name] for name in ("instruction", "input", "output") if said.get(f"field_{name}")}
        draft.told(
            CHANGED, at + "type", "the fields are read, the model's chat template writes them", "data.format=alpaca"
        )
        return "alpaca", columns
    prompt = re.sub(r"\{(instruction|input|system)\}", lambda name: f"{{{{ {field[name[1]]} | default('') }}}}", text)
    note = "its text is the user's turn, inside the model's chat template; take out marks such as [INST]"
    draft.told(CHANGED, at + "type", note, "data.format=prompt_completion")
    return "prompt_completion", {"prompt": prompt, "completion": field["output"]}


def _fields(draft: Draft, at: str, format: str, columns: dict[str, str]) -> None:
    """The names of columns, and of the parts of a message."""
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
        elif name == column:
            draft.told(NO_EFFECT, at + key, "called so here too")
        else:
            columns[column] = name
            draft.told("carried", at + key, "", f"data.columns={{{column}: {name}}}")
    if draft.has(at + "message_property_mappings"):
        mapping = draft.value(at + "message_property_mappings")
        pair = (mapping.get("role", "role"), mapping.get("content", "content")) if isinstance(mapping, dict) else ()
        _names(draft, at + "message_property_mappings", pair)
    for key in ("message_field_role", "message_field_content"):
        if draft.has(at + key):
            pair = (
                draft.value(at + "message_field_role", "role"),
                draft.value(at + "message_field_content", "content"),
            )
            _names(draft, at + key, pair)
    if draft.has(at + "roles"):
        said = draft.value(at + "roles")
        known = isinstance(said, dict) and all(
            ROLES.get(str(own)) == role
            for role, owns in said.items()
            for own in (owns if isinstance(owns, list) else [owns])
        )
        note = "these names are known" if known else f"roles are {', '.join(ROLES)}: rename them in the rows"
        draft.told(NO_EFFECT if known else NOT_CARRIED, at + "roles", note)


def _names(draft: Draft, key: str, pair: tuple[Any, ...]) -> None:
    if pair in (("from", "value"), ("role", "content")):
        draft.told(NO_EFFECT, key, "messages are read by role and content, and by from and value")
    else:
        draft.told(NOT_CARRIED, key, "messages have role and content, or from and value: rename them in the rows")


def _loss(draft: Draft, at: str) -> None:
    """Which turns carry loss."""
    if draft.has(at + "roles_to_train"):
        said = draft.value(at + "roles_to_train")
        trained = {ROLES.get(str(role), str(role)) for role in (said if isinstance(said, list) else [said])}
        if trained == {"assistant"}:
            draft.carried(at + "roles_to_train", "data.train_on", "assistant")
        elif "assistant" in trained:
            draft.changed(at + "roles_to_train", "data.train_on", "all", "all tokens: assistant turns, or everything")
        else:
            draft.told(NOT_CARRIED, at + "roles_to_train", "assistant turns carry loss, or everything: data.train_on")
    if draft.has(at + "train_on_eos"):
        same = draft.value(at + "train_on_eos") == "turn"
        note = "each answer is learned with its end" + ("" if same else "; there is no other choice")
        draft.told(NO_EFFECT if same else NOT_CARRIED, at + "train_on_eos", note)
    if draft.has(at + "message_field_training"):
        same = draft.value(at + "message_field_training") in ("train", "weight")
        note = "read as it is" if same else "a message says it by `train` or `weight`: rename it in the rows"
        draft.told(NO_EFFECT if same else NOT_CARRIED, at + "message_field_training", note)
