"""The tools that a row offers: its column `tools`, or `functions` in OpenAI's older words."""

import json
from typing import Any

from sft_runner.data.formats.values import kind, text, to_json
from sft_runner.data.row import Row, Tool

TOOL = '{"type": "function", "function": {"name": ..., "description": ..., "parameters": {...}}}'


def tools(row: Row) -> list[Tool]:
    """The tools in OpenAI's shape, from a list or JSON text; functions may stand there without the wrapper."""
    column = "tools" if row.values.get("tools") else "functions"
    value = row.values.get(column)
    return [_tool(row, f"{column}[{i}]", item) for i, item in enumerate(_items(row, column, value))] if value else []


def _items(row: Row, place: str, value: Any) -> list[Any]:
    """What stands in a list, in JSON text, or in texts in a list."""
    if isinstance(value, str):
        value = _from_text(row, place, value)
    elif not isinstance(value, list):
        return [value]
    return [found for item in value for found in (_from_text(row, place, item) if isinstance(item, str) else [item])]


def _from_text(row: Row, place: str, written: str) -> list[Any]:
    """A JSON list, or objects one after the other as in Glaive's system prompts."""
    found: list[Any] = []
    decoder, rest = json.JSONDecoder(), written.strip()
    while rest:
        try:
            value, end = decoder.raw_decode(rest)
        except (ValueError, RecursionError) as error:
            raise row.error(f"{place} is not JSON: {error}", f"write [{TOOL}]") from None
        found += value if isinstance(value, list) else [value]
        rest = rest[end:].lstrip(" \t\r\n,")
    return found


def _tool(row: Row, place: str, item: Any) -> Tool:
    if not isinstance(item, dict):
        raise row.error(f"{place} is {kind(item)}, not a tool", f"write {TOOL}")
    if item.get("type") not in (None, "function"):
        raise row.error(f"{place}.type is {item['type']!r}", "only functions are read as tools")
    function = item.get("function") or {key: value for key, value in item.items() if key != "type"}
    if not isinstance(function, dict) or not function.get("name"):
        raise row.error(f"{place} names no function", f"write {TOOL}")
    text(row, f"{place}.name", function["name"])
    if not isinstance(function.get("parameters"), dict | None):
        raise row.error(f"{place}.parameters is {kind(function['parameters'])}, not an object", f"write {TOOL}")
    to_json(row, place, function)
    return {"type": "function", "function": function}
