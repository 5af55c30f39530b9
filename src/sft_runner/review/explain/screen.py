"""What is explained, as lines for a terminal or a pipe, and as plain values for programs."""

import json
import re
from collections.abc import Iterator
from typing import Any

from sft_runner.config.layers import Layers, Place, Said
from sft_runner.config.schema import flatten
from sft_runner.config.words import parsed
from sft_runner.masking import masked
from sft_runner.review.explain.group import Group
from sft_runner.review.explain.setting import Setting, glossary, reason, run_of
from sft_runner.review.lint.secret import secrets, without

OTHERS = 8
"""Files that say otherwise which are listed."""
SECRET = "***"
"""What stands for a secret."""


def typed(value: Any, name: str = "") -> str:
    """A value as it is typed, without the secrets of addresses and of what is called so."""
    value = safe(value, name)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return value or '""'
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def of_setting(found: Setting) -> Iterator[tuple[str, str]]:
    """Lines for a setting: a style of Rich, and the text."""
    key = found.key
    out = bool(found.said and found.said[0].taken == key)
    yield "bold", f"{key} is taken out" if out else f"{key} = {typed(found.value, key)}"
    if found.meaning:
        yield "", f"  {found.meaning}"
    yield "", ""
    if found.reason:
        yield "green", f"  {typed(found.value, key)}  filled in: {found.reason}"
    told = [f"without {one.taken}" if one.taken else typed(one.value, key) for one in found.said]
    width = min(max(map(len, told), default=0), 40)
    for number, (text, one) in enumerate(zip(told, found.said, strict=True)):
        holds = number == 0 and not found.reason
        yield "green" if holds else "dim", f"  {text:<{width}}  {place(one.place)}"
        for target, where in found.pointed if holds else ():
            yield "green", f"  {'':<{width}}  {target}: {place(where)}"
    yield "", ""
    default = "" if not found.said or found.said[-1].place.layer != "schema" else typed(found.said[-1].value)
    for name, text in (("possible", found.possible), ("default", default), ("counts", found.counts)):
        if text:
            yield "", f"  {name + ':':<10}{text}"
    if found.others:
        yield "", ""
        yield "", "  otherwise in:"
        shown = found.others[:OTHERS]
        width = min(max(len(typed(one.value, key)) for one in shown), 40)
        for one in shown:
            yield "dim", f"  {typed(one.value, key):<{width}}  {place(one.place)}"
        if len(found.others) > OTHERS:
            yield "dim", f"  and {len(found.others) - OTHERS} more"
    for text in found.warnings:
        yield "yellow", f"  warning: {safe(text)}"


def of_group(found: Group) -> Iterator[tuple[str, str]]:
    """Lines for a group."""
    yield "bold", f"{found.name}={found.chosen or ('[]' if found.name == 'tracking' else 'null')}"
    nobody = "nobody chooses one" if found.known else "not known: Hydra composed it"
    yield "green", f"  {place(found.place) if found.place else nobody}"
    if found.reason:
        yield "", f"  took {found.reason}"
    yield "", ""
    names = found.chosen.split(", ")
    width = max(map(len, found.choices), default=0)
    for name, text in found.choices.items():
        yield "green" if name in names else "dim", f"  {'*' if name in names else ' '} {name:<{width}}  {text}"


def of_part(part: str, found: Layers) -> Iterator[tuple[str, str]]:
    """Lines for every setting of a part: its value, and who says it."""
    run = run_of(found)
    known = {key: value for key, (value, _) in flatten(run.config).items() if key.startswith(f"{part}.")}
    texts = {key: text for key, (_, text) in glossary().items()}
    width = max(len(f"{key} = {typed(value, key)}") for key, value in known.items())
    for key, value in known.items():
        why = reason(key, run)
        said = found.said[key][-1].place
        origin = f"filled in: {why}" if why else "default" if said.layer == "schema" else place(said)
        yield "dim" if origin == "default" else "", f"{f'{key} = {typed(value, key)}':<{min(width, 60)}}  {origin}"
        if texts.get(key):
            yield "dim", f"    {texts[key]}"


def place(where: Place) -> str:
    """A layer with its file and line."""
    if where.file is None:
        return where.layer
    return f"{'default' if where.layer == 'schema' else where.layer}  {where.short}"


def plain_setting(found: Setting) -> dict[str, Any]:
    """A setting for programs."""
    key = found.key
    return {
        "key": key,
        "value": safe(found.value, key),
        "filled_in": found.reason or None,
        "said": [_plain(one, key) for one in found.said],
        "points_to": [{"key": target, "place": str(where)} for target, where in found.pointed],
        "meaning": found.meaning,
        "possible": found.possible,
        "counts": found.counts,
        "otherwise": [_plain(one, key) for one in found.others],
        "warnings": safe(list(found.warnings)),
    }


def plain_group(found: Group) -> dict[str, Any]:
    """A group for programs."""
    where = found.place
    return {
        "group": found.name,
        "choice": found.chosen or None,
        "place": str(where) if where else None,
        "reason": found.reason or None,
        "choices": found.choices,
    }


def safe(value: Any, key: str = "") -> Any:
    """The value of a key without secrets: those of addresses, and all that stands below a name such as `hub_token`."""
    if isinstance(value, dict):
        return {name: safe(entry, f"{key}.{name}") for name, entry in value.items()}
    if isinstance(value, list):
        return [safe(entry, key) for entry in value]
    if value and not isinstance(value, bool) and any(map(_hidden, key.split("."))):
        return SECRET
    if isinstance(value, str):
        return without(masked(value), list(secrets([f"{key.rpartition('.')[2]}: {value}"])))
    return value


def safe_word(word: str) -> str:
    """A word of the command line without secrets."""
    name, sign, text = word.partition("=")
    key, value = name.lstrip("+~"), parsed(word).value()
    if isinstance(value, dict | list):
        hidden = safe(value, key)
        return word if hidden == value else f"{name}{sign}{json.dumps(hidden, ensure_ascii=False)}"
    return f"{name}{sign}{safe(text, key)}"


def _hidden(name: str) -> bool:
    """Whether nobody should see what is called so."""
    return bool(_SECRET.search(name)) and not _WORD.fullmatch(name)


_SECRET = re.compile(r"api_?key|secret|passw(or)?d|(^|[^a-z])token$", re.IGNORECASE)
"""Names of secrets."""
_WORD = re.compile(r"(bos|eos|pad|unk|sep|cls|mask|image|video|audio|start|end|stop)_token", re.IGNORECASE)
"""Names of words of a vocabulary, which are none."""


def _plain(one: Said, key: str) -> dict[str, Any]:
    where = one.place
    file = where.short.rpartition(":")[0] if where.file else None
    said = {"value": safe(one.value, key), "layer": where.layer, "file": file, "line": where.line or None}
    return {**said, "taken_out": one.taken} if one.taken else said
