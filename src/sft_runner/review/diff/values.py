"""Values as a person reads them: never a secret, and two that differ never alike."""

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from sft_runner.masking import masked
from sft_runner.review.lint.secret import secrets, without

SECRET = re.compile(
    r"(^|[._-])(token|secret|password|passwd|api_?key|access_?key|credentials?|auth|authorization|cookie)$",
    re.IGNORECASE,
)
"""Names whose values are never shown."""
HIDDEN = "***"
ABSENT = "–"
"""Stands for a key or a number that is not there."""
WIDEST = 100
"""Characters of a value that are shown."""
BEFORE = 30
"""Of them before the first that differs."""


def text(key: str, value: Any) -> str:
    """A value as a recipe would have it."""
    shown = without_secrets(key, value)
    if isinstance(shown, str):
        return _plain(shown)
    if isinstance(shown, list):
        return f"[{', '.join(text('', part) for part in shown)}]"
    return repr(shown) if isinstance(shown, float) else json.dumps(shown, ensure_ascii=False)


def without_secrets(key: str, value: Any) -> Any:
    """A value in which everything that may be a secret is masked."""
    if isinstance(value, Mapping):
        return {name: without_secrets(str(name), part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(key, part) for part in value]
    if SECRET.search(key) and value is not None and not isinstance(value, bool):
        return HIDDEN
    return clean(value, key) if isinstance(value, str) else value


def clean(said: str, key: str = "") -> str:
    """A text without the secrets in it."""
    lines = said.split("\n")
    found = [*secrets(lines), *secrets([f"{key}: {line}" for line in lines] if key else [])]
    return masked(without(said, found))


def pair(old: str | None, new: str | None) -> tuple[str, str]:
    """Two values, short enough for a line; of long ones the part around the first character that differs."""
    if old is None or new is None or max(len(old), len(new)) <= WIDEST:
        return _cut(old, 0), _cut(new, 0)
    same = next((at for at, (one, other) in enumerate(zip(old, new, strict=False)) if one != other), None)
    begin = max(0, (min(len(old), len(new)) if same is None else same) - BEFORE)
    return _cut(old, begin), _cut(new, begin)


def _cut(told: str | None, begin: int) -> str:
    if told is None:
        return ABSENT
    rest = told[begin:]
    return f"{'…' if begin else ''}{rest if len(rest) <= WIDEST else f'{rest[: WIDEST - 1]}…'}"


def _plain(said: str) -> str:
    """A text, in quotes where YAML would read something else."""
    if said.startswith("${") or said == HIDDEN:
        return said
    try:
        read = yaml.safe_load(said) if len(said) <= WIDEST else said
    except (yaml.YAMLError, ValueError):
        read = said  # punctuation: it can be no number or truth value
    if read != said or said != said.strip() or not said.isprintable():
        return json.dumps(said, ensure_ascii=False)
    return said
