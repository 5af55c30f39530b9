"""The schema of recipes and of group files as JSON Schema, so that editors complete and check them while one types.

Draft 7, which editors' YAML servers read. It takes whatever the pipeline takes: numbers as text (`5e-3` is text in
YAML 1.1), `${...}` for any value, null where a setting may be open. It cannot know what values mean beside each other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from sft_runner.config.glossary import texts
from sft_runner.config.schema import EXPORTS, Config
from sft_runner.config.schema_data import FORMATS
from sft_runner.config.sources import groups, options
from sft_runner.data.sources.source import KINDS
from sft_runner.errors import UnknownName
from sft_runner.evaluation import names
from sft_runner.stages import STAGES

DRAFT = "http://json-schema.org/draft-07/schema#"
RECIPE = "recipe"
INTERPOLATION = r"\$\{"
WHOLE = r"^\s*[+-]?[0-9][0-9_]*\s*$"
NUMBER = r"^\s*[+-]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)([eE][+-]?[0-9]+)?\s*$"
"""Text that the pipeline reads as a number."""
_TRUTHS = ("true", "false", "yes", "no", "on", "off", "y", "n", "t", "f", "1", "0")
_CLOSED = {"stage.until": tuple(STAGES), "force": tuple(STAGES), "export": EXPORTS}
"""Settings that take the names of things of this program, and no others."""
_METRICS = (*names.METRICS, *names.ALWAYS)
_SUGGESTED = {"evaluate.metrics": _METRICS, "evaluate.headline": _METRICS, "train.early_stopping.metric": _METRICS}
"""Settings whose names are worth completing, while others may be the user's own."""
Schema = dict[str, Any]


def schema(group: str = RECIPE) -> Schema:
    """The JSON Schema of a recipe, or of the files in `conf/GROUP`. Raises `UnknownName`.

    Names of choices are those in `./conf` and the shipped ones; they are suggested, and others may be written.
    """
    known = [RECIPE, *(name for name in groups() if name != RECIPE), "local"]
    if group not in known:
        raise UnknownName("group", group, known)
    parts = {item.name: item.default_factory for item in fields(Config) if is_dataclass(item.default_factory)}
    part: Any = parts.get(group, Config)  # other groups, such as method, set keys of the whole configuration
    found = _part(part, f"{group}." if group in parts else "")
    if group == RECIPE:
        del found["properties"]["hardware"]  # a recipe says nothing of the machine
    found["properties"] = {"defaults": _defaults(), **found["properties"]}
    title = "A recipe of sft_runner" if group == RECIPE else f"A file in conf/{group} of sft_runner"
    return {"$schema": DRAFT, "title": title, **found, "type": ["object", "null"] if group != RECIPE else "object"}


def _part(part: type[Any], prefix: str) -> Schema:
    """A mapping with the fields of a dataclass and no others."""
    hints, help_, found = get_type_hints(part), texts(part), {}
    instance = part()
    for item in fields(part):
        if item.metadata.get("found"):
            continue
        value, key = getattr(instance, item.name), prefix + item.name
        if is_dataclass(value):
            inner = _part(type(value), f"{key}.")
            made: Schema = {**inner, "type": ["object", "string"], "pattern": INTERPOLATION}
        else:
            made = {**_setting(key, hints[item.name], item.metadata), "default": value}
        found[item.name] = {"description": help_.get(item.name, ""), **made}
    return {"type": "object", "additionalProperties": False, "properties": found}


def _setting(key: str, hint: Any, marks: Mapping[str, Any]) -> Schema:
    """One setting: its type, its choices and its bounds."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType] if NoneType in get_args(hint) else [hint]
    empty = NoneType in get_args(hint)
    kind = get_origin(kinds[0]) or kinds[0]
    if kind is list:
        return _list(_words(_CLOSED.get(key), _SUGGESTED.get(key)))
    if kind is dict:
        return {"type": ["object", "string"], "pattern": INTERPOLATION, **_ENTRIES.get(key, {})}
    if kind is str:
        return _words(marks.get("choices") or _CLOSED.get(key), _SUGGESTED.get(key), empty)
    return _number(kind, empty, marks)


def _number(kind: type[Any], empty: bool, marks: Mapping[str, Any]) -> Schema:
    """A number or a truth, also as text; bounds hold for what is written as a number."""
    if kind is bool:
        cases = [form for word in _TRUTHS for form in dict.fromkeys((word, word.title(), word.upper()))]
        return {"type": ["boolean", "integer", "string"], "pattern": f"{INTERPOLATION}|^({'|'.join(cases)})$"}
    pattern = WHOLE if kind is int else NUMBER
    types = ["integer" if kind is int else "number", "string", *(["null"] if empty else [])]
    words = {"at_least": "minimum", "above": "exclusiveMinimum", "below": "exclusiveMaximum"}
    bounds = {word: marks[mark] for mark, word in words.items() if mark in marks}
    return {"type": types, "pattern": f"{INTERPOLATION}|{pattern}", **bounds}


def _words(closed: Iterable[str] | None, suggested: Iterable[str] | None = None, empty: bool = False) -> Schema:
    """A text, which may be written as a number or a truth; one of `closed` only, or any with `suggested` ones."""
    none = ["null"] if empty else []
    if closed is not None:
        allowed: list[Any] = [form for word in closed for form in ([word, int(word)] if word.isdigit() else [word])]
        return {"anyOf": [{"enum": [*allowed, *([None] if empty else [])]}, _INTERPOLATED]}
    plain: Schema = {"type": ["string", "number", "boolean", *none]}
    return {"anyOf": [{"enum": [*suggested]}, plain]} if suggested is not None else plain


def _list(items: Schema) -> Schema:
    return {"type": ["array", "string"], "pattern": INTERPOLATION, "items": items}


def _defaults() -> Schema:
    """The list of what a file extends and chooses."""
    chosen: dict[str, Schema] = {}
    patterns: dict[str, Schema] = {r"^((override|optional)\s+)*/?hydra(/|$)": {}}
    for group in groups():
        named: Schema = {"anyOf": [{"enum": options(group)}, {"type": ["string", "null"]}]} if group != RECIPE else {}
        several = {"anyOf": [*named.get("anyOf", [{"type": ["string", "null"]}]), {"type": "array"}]}
        chosen[f"override /{group}"] = several
        patterns[rf"^((override|optional)\s+)*/?{group}(@\S*)?$"] = several
    choice = {"type": "object", "additionalProperties": False, "properties": chosen, "patternProperties": patterns}
    words: Schema = {"anyOf": [{"enum": ["_self_"]}, {"type": "string"}]}
    help_ = "What this file extends by name, and what it chooses: `- override /model: qwen3-1.7b`"
    return {"description": help_, "type": "array", "items": {"anyOf": [choice, *words["anyOf"]]}}


def _entry() -> Schema:
    """An entry of `data.sources` or `evaluate.sets`."""
    share = {"anyOf": [{"type": ["number", "null"], "minimum": 0}, {"enum": ["all"]}, _INTERPOLATED]}
    whole = {"type": ["integer", "null", "string"], "minimum": 1, "pattern": INTERPOLATION}
    made: dict[str, Schema] = {
        "path": {"type": "string"},
        "format": {"anyOf": [{"enum": ["auto", *FORMATS, None]}, _INTERPOLATED]},
        "columns": {"type": ["object", "null", "string"], "pattern": INTERPOLATION},
        "limit": whole,
        "cap": whole,
        "weight": {"type": ["number", "null", "string"], "exclusiveMinimum": 0, "pattern": INTERPOLATION},
        "held_out": share,
    }
    properties = {key: {"description": text, **made[key]} for key, text in KINDS.items()}
    return {
        "type": ["object", "string"],
        "pattern": INTERPOLATION,
        "required": ["path"],
        "additionalProperties": False,
        "properties": properties,
    }


_INTERPOLATED: Schema = {"type": "string", "pattern": INTERPOLATION}
_ENTRIES: dict[str, Schema] = {
    "data.sources": {"additionalProperties": _entry()},
    "evaluate.sets": {"additionalProperties": _entry()},
    "evaluate.gates": {"additionalProperties": {"type": ["object", "string"], "pattern": INTERPOLATION}},
}
"""What the values of free names are."""
