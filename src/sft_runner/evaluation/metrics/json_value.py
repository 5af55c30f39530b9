"""Answers in JSON: whether there is any, and whether it has the expected value."""

import json
from decimal import Decimal
from typing import Any

from sft_runner.evaluation.metrics.fence import fences

_NONE = object()
"""There is no JSON."""


def valid(answer: str, expected: str) -> bool | None:
    """Whether the answer is JSON; None where none is expected."""
    return None if read(expected) is _NONE else read(answer) is not _NONE


def equal(answer: str, expected: str) -> bool | None:
    """Whether the answer's JSON has the expected value; None where none is expected."""
    wanted = read(expected)
    return None if wanted is _NONE else same(read(answer), wanted)


def read(text: str) -> Any:
    """The object or list that a text is, or that its only fence of JSON holds; `_NONE` where there is none.

    A bare word or number is none, although it is JSON too: so would be most short answers.
    """
    inside = fences(text, ("json", "jsonc", "json5"))
    candidates = [text] if inside is None else inside
    if len(candidates) != 1:
        return _NONE
    try:
        value = decoder().decode(candidates[0].strip())
    except (ValueError, ArithmeticError, RecursionError):
        return _NONE
    return value if isinstance(value, dict | list) else _NONE


def decoder() -> json.JSONDecoder:
    """Reads JSON as RFC 8259 has it: no NaN, and fractions exactly."""
    return json.JSONDecoder(parse_float=Decimal, parse_constant=_refuse)


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal: objects whatever the order of their keys, 1 and 1.0, but not 1 and true."""
    pairs = [(one, other)]  # no recursion: a value may be as deep as Python reads it
    while pairs:
        one, other = pairs.pop()
        if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
            pairs += ((one[key], other[key]) for key in one)
        elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
            pairs += zip(one, other, strict=True)
        elif isinstance(one, dict | list) or isinstance(one, bool) is not isinstance(other, bool) or one != other:
            return False
    return True


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")
