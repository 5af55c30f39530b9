"""The schema of recipes and of group files as JSON Schema, so that editors complete and check them while one types.

Draft 7, which editors' YAML servers read. It takes whatever the pipeline takes: numbers as text (`5e-3` is text in
YAML 1.1), `${...}` for any value, null where a setting may be open. It cannot know what values mean beside each other.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from sft_runner.config.gate_conflicts import NEVER_LEARNED
from sft_runner.config.glossary import texts
from sft_runner.config.schema import EXPORTS, Config
from sft_runner.config.schema_data import FORMATS
from sft_runner.config.sources import groups, options
from sft_runner.data.sources.source import KINDS
from sft_runner.errors import UnknownName
from sft_runner.evaluation import gates, names
from sft_runner.stages import STAGES

DRAFT = "http://json-schema.org/draft-07/schema#"
RECIPE = "recipe"
INTERPOLATION = r"\$\{"
WHOLE = r"^\s*[+-]?[0-9][0-9_]*\s*$"
NUMBER = r"^\s*[+-]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)([eE][+-]?[0-9]+)?\s*$"
"""Text that the pipeline reads as a number."""
LARGEST = 1e300
"""No setting comes near it, and infinity is beyond."""
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
    parts: dict[str, Any] = {item.name: item.default_factory for item in fields(Config)}
    title = "A recipe of sft_runner" if group == RECIPE else f"A file in conf/{group} of sft_runner"
    head: Schema = {"$schema": DRAFT, "title": title, "definitions": _definitions()}
    whole = _file(Config, "")
    if group == RECIPE:
        del whole["properties"]["hardware"]  # a recipe says nothing of the machine
        return head | whole
    whole["type"] = ["object", "null"]
    if not is_dataclass(parts.get(group)):  # such as method, which sets keys of the whole configuration
        return head | whole
    part = {**_file(parts[group], f"{group}."), "type": ["object", "null"]}
    return head | {"anyOf": [part, whole]}  # a file under `# @package _global_` is of the whole


def is_ours(text: bytes) -> bool:
    """Whether a file is a schema that was written here."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and str(found.get("title", "")).endswith("of sft_runner")


def _file(part: Any, prefix: str) -> Schema:
    """A part of the configuration, with what a file may extend and choose."""
    found = _part(part, prefix)
    return {**found, "properties": {"defaults": _defaults(), **found["properties"]}}


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
    pattern = _bounded(WHOLE if kind is int else NUMBER, marks)
    types = ["integer" if kind is int else "number", "string", *(["null"] if empty else [])]
    words = {"at_least": "minimum", "above": "exclusiveMinimum", "below": "exclusiveMaximum"}
    bounds = {word: marks[mark] for mark, word in words.items() if mark in marks}
    if kind is float and "below" not in marks:
        bounds["maximum"] = LARGEST  # `.inf` is no number to train with
    return {"type": types, "pattern": f"{INTERPOLATION}|{pattern}", **bounds}


def _bounded(pattern: str, marks: Mapping[str, Any]) -> str:
    """The same for text of numbers, as far as its digits say it: none below 0, and no 0 where that is too little."""
    least, above = marks.get("at_least", -1), marks.get("above", -1)
    if least < 0 and above < 0:
        return pattern
    digit = r"(?=[0-9_.]*[1-9])" if least > 0 or above >= 0 else ""
    return pattern.replace("[+-]?", rf"\+?{digit}", 1)


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
    for group in groups():
        if group != RECIPE:
            chosen[f"override /{group}"] = {"anyOf": [{"enum": options(group)}, {"type": ["string", "null", "array"]}]}
    choice = {
        "type": "object",
        "additionalProperties": False,
        "maxProperties": 1,
        "properties": chosen,
        "patternProperties": {r"^override\s+/?hydra(/|$)": {}},
    }
    words: Schema = {"anyOf": [{"enum": ["_self_"]}, {"type": "string"}]}
    help_ = "What this file extends by name, and what it chooses: `- override /model: qwen3-1.7b`"
    return {"description": help_, "type": "array", "items": {"anyOf": [choice, *words["anyOf"]]}}


def _entry(keys: Iterable[str]) -> Schema:
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
    properties = {key: {"description": KINDS[key], **made[key]} for key in keys}
    return _open({"required": ["path"], "additionalProperties": False, "properties": properties})


def _limits(*more: str) -> Schema:
    """The limits of a gate; `more` types may stand in their place."""
    number = {"type": ["number", "string"], "pattern": f"{INTERPOLATION}|{NUMBER}"}
    properties = {name: {"description": text, **number} for name, text in gates.LIMITS.items()}
    properties[gates.SURE] = {
        "description": "the worse end of the 95 % interval is judged too",
        **_number(bool, False, {}),
    }
    return _open({"additionalProperties": False, "properties": properties}, *more)


def _gates() -> Schema:
    """Limits by metric, by group and metric, by benchmark and metric."""
    benchmarks = _open({"additionalProperties": _GROUP})
    metrics = {name: _GATE for name in _METRICS if names.exists(name)}
    return _open({"properties": {**metrics, gates.BENCHMARKS: benchmarks}, "additionalProperties": _GROUP})


def _definitions() -> Schema:
    """What gates have many of. A metric of the user's own has its limits where a group has metrics."""
    group = _open({"additionalProperties": _limits("number", "boolean")})
    return {"gate": _limits(), "group": group}


def _open(values: Schema, *more: str) -> Schema:
    """A mapping, or an interpolation in its place."""
    return {"type": ["object", "string", *more], "pattern": INTERPOLATION, **values}


_GATE: Schema = {"$ref": "#/definitions/gate"}
_GROUP: Schema = {"$ref": "#/definitions/group"}
_INTERPOLATED: Schema = {"type": "string", "pattern": INTERPOLATION}
_ENTRIES: dict[str, Schema] = {
    "data.sources": {"additionalProperties": _entry(KINDS)},
    "evaluate.sets": {"additionalProperties": _entry(key for key in KINDS if key not in NEVER_LEARNED)},
    "evaluate.gates": _gates(),
}
"""What the values of free names are."""
