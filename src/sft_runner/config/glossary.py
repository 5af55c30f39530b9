"""Every setting with its default, its choices and its meaning, read from the schema's own source."""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any


def described(part: type[Any], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Key, default, choices and help of every setting, read from the schema's own source."""
    help_ = texts(part)
    instance = part()
    for item in fields(part):
        value = getattr(instance, item.name)
        if is_dataclass(value):
            yield from described(type(value), f"{prefix}{item.name}.")
        elif not item.metadata.get("found"):
            default = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            yield prefix + item.name, default, "|".join(item.metadata.get("choices", ())), help_.get(item.name, "")


def texts(part: type[Any]) -> dict[str, str]:
    """The docstring line under each field of a dataclass."""
    body = ast.parse(inspect.getsource(part)).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for statement, after in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(after, ast.Expr)
        ):
            found[statement.target.id] = " ".join(str(ast.literal_eval(after.value)).split())
    return found
