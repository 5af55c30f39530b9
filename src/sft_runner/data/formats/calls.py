"""Tool calls of a conversation in one shape, each with an id, and the results that answer them."""

from typing import Any

from sft_runner.data.formats.values import from_json, kind, listed, text, to_json
from sft_runner.data.row import Row

CALL = '{"name": ..., "arguments": {...}}'


class Calls:
    """The calls of one row, and which of them still wait for a result."""

    def __init__(self, row: Row) -> None:
        self.row, self.made = row, 0
        self.open: list[tuple[str, str]] = []
        """Id and name of the last turn's calls that have no result yet."""

    def read(self, place: str, value: Any) -> list[dict[str, Any]]:
        """The calls of a turn in OpenAI's shape, arguments as objects, from a call, a list of them, or JSON text."""
        if isinstance(value, str):
            value = from_json(self.row, place, value, CALL)
        if isinstance(value, dict):
            return [self._call(place, value)]
        calls = listed(self.row, place, value, "calls", CALL)
        return [self._call(f"{place}[{i}]", call) for i, call in enumerate(calls)]

    def wait_for(self, calls: list[dict[str, Any]]) -> None:
        """The calls of a new turn: earlier ones are not answered any more."""
        self.open = [(call["id"], call["function"]["name"]) for call in calls]

    def answered(self, place: str, id: Any, name: Any) -> dict[str, str]:
        """Id and name of the call that a result belongs to: by its id, else its name, else the first one open."""
        for i, (open_id, open_name) in enumerate(self.open):
            if open_id == id if id else name in (None, "", open_name):
                del self.open[i]
                return {"tool_call_id": open_id, "name": open_name}
        waiting = ", ".join(f"{open_name} ({open_id})" for open_id, open_name in self.open) or "none"
        raise self.row.error(
            f"{place} is a tool's result{f' for {id or name!r}' if id or name else ''} without a call",
            f"it must follow the call that it answers; calls without a result: {waiting}",
        )

    def _call(self, place: str, call: Any) -> dict[str, Any]:
        if not isinstance(call, dict):
            raise self.row.error(f"{place} is {kind(call)}, not a call", f"write {CALL}")
        if call.get("type") not in (None, "function"):
            raise self.row.error(f"{place}.type is {call['type']!r}", "only calls of functions are read")
        function = call.get("function") or call
        if not isinstance(function, dict) or not function.get("name"):
            raise self.row.error(f"{place} names no function", f"write {CALL}")
        self.made += 1
        return {
            "id": text(self.row, f"{place}.id", call.get("id") or f"call{self.made:05d}"),  # Mistral wants 9 characters
            "type": "function",
            "function": {
                "name": text(self.row, f"{place}.name", function["name"]),
                "arguments": self._arguments(place, function),
            },
        }

    def _arguments(self, place: str, function: dict[str, Any]) -> dict[str, Any]:
        key = next((key for key in ("arguments", "parameters") if key in function), "")  # Llama 3 has parameters
        if not key and (others := [name for name in function if name not in ("name", "id", "type")]):
            raise self.row.error(f"{place} has {', '.join(others)}, no arguments", f"write {CALL}")
        value = function.get(key)
        if isinstance(value, str) and value.strip():
            value = from_json(self.row, f"{place}.{key}", value, '{"name": value}')
        if value in (None, ""):
            return {}
        if not isinstance(value, dict):
            raise self.row.error(f"{place}.{key} is {kind(value)}, not an object", 'write {"name": value}')
        to_json(self.row, f"{place}.{key}", value)
        return value
