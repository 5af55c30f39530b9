"""What is explained, as lines for a terminal or a pipe, and as plain values for programs."""

import json
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
    last = found.key.rpartition(".")[2]
    yield "bold", f"{found.key} = {typed(found.value, last)}"
    if found.meaning:
        yield "", f"  {found.meaning}"
    yield "", ""
    if found.reason:
        yield "green", f"  {typed(found.value, last)}  filled in: {found.reason}"
    width = max((len(typed(one.value, last)) for one in found.said), default=0)
    for number, one in enumerate(found.said):
        holds = number == 0 and not found.reason
        yield "green" if holds else "dim", f"  {typed(one.value, last):<{min(width, 40)}}  {place(one.place)}"
    yield "", ""
    default = "" if not found.said or found.said[-1].place.layer != "schema" else typed(found.said[-1].value)
    for name, text in (("possible", found.possible), ("default", default), ("counts", found.counts)):
        if text:
            yield "", f"  {name + ':':<10}{text}"
    if found.others:
        yield "", ""
        yield "", "  otherwise in:"
        shown = found.others[:OTHERS]
        width = min(max(len(typed(one.value, last)) for one in shown), 40)
        for one in shown:
            yield "dim", f"  {typed(one.value, last):<{width}}  {place(one.place)}"
        if len(found.others) > OTHERS:
            yield "dim", f"  and {len(found.others) - OTHERS} more"
    for text in found.warnings:
        yield "yellow", f"  warning: {safe(text)}"


def of_group(found: Group) -> Iterator[tuple[str, str]]:
    """Lines for a group."""
    yield "bold", f"{found.name}={found.chosen or 'null'}"
    yield "green", f"  {place(found.place) if found.place else 'nobody chooses one'}"
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
    width = max(len(f"{key} = {typed(value)}") for key, value in known.items())
    for key, value in known.items():
        why = reason(key, run)
        said = found.said[key][-1].place
        origin = f"filled in: {why}" if why else "default" if said.layer == "schema" else place(said)
        yield "dim" if origin == "default" else "", f"{f'{key} = {typed(value)}':<{min(width, 60)}}  {origin}"
        if texts.get(key):
            yield "dim", f"    {texts[key]}"


def place(where: Place) -> str:
    """A layer with its file and line."""
    if where.file is None:
        return where.layer
    return f"{'default' if where.layer == 'schema' else where.layer}  {where.short}"


def plain_setting(found: Setting) -> dict[str, Any]:
    """A setting for programs."""
    last = found.key.rpartition(".")[2]
    return {
        "key": found.key,
        "value": safe(found.value, last),
        "filled_in": found.reason or None,
        "said": [_plain(one, last) for one in found.said],
        "meaning": found.meaning,
        "possible": found.possible,
        "counts": found.counts,
        "otherwise": [_plain(one, last) for one in found.others],
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


def safe(value: Any, name: str = "") -> Any:
    """A value without secrets: those of addresses, and what stands below a name such as `hub_token`."""
    if isinstance(value, dict):
        return {key: safe(entry, str(key)) for key, entry in value.items()}
    if isinstance(value, list):
        return [safe(entry, name) for entry in value]
    if isinstance(value, str):
        if value and any(word in name.lower() for word in _SECRETS):
            return SECRET
        return without(masked(value), list(secrets([f"{name}: {value}"])))
    return value


def safe_word(word: str) -> str:
    """A word of the command line without secrets."""
    key, sign, text = word.partition("=")
    value = parsed(word).value()
    if isinstance(value, dict | list) and safe(value) != value:
        text = json.dumps(safe(value), ensure_ascii=False)
    return f"{key}{sign}{safe(text, key.rpartition('.')[2])}"


_SECRETS = ("hub_token", "api_key", "apikey", "secret", "password", "access_token", "auth_token")
"""In the names of what nobody should see. `token` alone is not: `eos_token` is none."""


def _plain(one: Said, name: str) -> dict[str, Any]:
    where = one.place
    file = where.short.rpartition(":")[0] if where.file else None
    return {"value": safe(one.value, name), "layer": where.layer, "file": file, "line": where.line or None}
