"""One JSON value out of a text, strictly: no name twice in an object, no NaN."""

import json
from typing import Any


class JsonDecoder:
    """`json.JSONDecoder` that notices what the standard one takes without a word."""

    def __init__(self) -> None:
        self.fault = ""
        """What is wrong with the value that was decoded last, or empty."""
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object, parse_constant=self._constant)

    def decode(self, text: str, position: int = 0) -> tuple[Any, int]:
        """The value that begins at `position`, and the position behind it.

        Raises `ValueError`, mostly as `json.JSONDecodeError`, and `RecursionError` for a thousand nested lists.
        """
        self.fault = ""
        return self._decoder.raw_decode(text, position)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            self.fault = f"{twice!r} stands twice in one object, so one of its values would be lost"
        return values

    def _constant(self, name: str) -> None:
        self.fault = f"{name} is no JSON value; write null where there is nothing"


def problem(error: ValueError | RecursionError, text: str = "") -> str:
    """Why a text is not JSON, in words."""
    if isinstance(error, RecursionError):
        return "not readable as JSON: nested too deeply"
    if not isinstance(error, json.JSONDecodeError):  # a number of more than 4,300 digits
        return f"not readable as JSON: {error}"
    before, rest = text[: error.pos].rstrip(), text[error.pos :].lstrip()
    if (before.endswith(",") and rest[:1] in ("}", "]")) or "trailing comma" in error.msg:
        return "not JSON: a comma with nothing behind it"
    return f"not JSON: {error.msg}"
