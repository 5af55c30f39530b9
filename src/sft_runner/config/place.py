"""Where a value is said: a file and a line, or the command line."""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sft_runner.config.file import shown
from sft_runner.config.schema import Config

SCHEMA = "schema"
"""Layer of the defaults."""
COMMAND_LINE = "command line"
"""Layer of the words."""


@dataclass(frozen=True)
class Place:
    """Where a value is said."""

    file: Path | None
    """The file; None for the command line."""
    line: int
    """Its line, from 1 on; 0 for the command line."""
    layer: str
    """`schema`, `conf/sft.yaml`, `hardware=rtx3060`, `recipe=code`, `local=default`, or `command line`."""

    def __str__(self) -> str:
        return self.layer if self.file is None else f"{shown(self.file)}, line {self.line}"

    @property
    def short(self) -> str:
        """`recipes/code.yaml:7`, as editors take it."""
        return self.layer if self.file is None else f"{shown(self.file)}:{self.line}"


@dataclass(frozen=True)
class Said:
    """What one layer says of a key."""

    value: Any
    """The value; of a setting of free names, such as `evaluate.gates`, what this layer says of it."""
    place: Place
    """Where."""
    taken: str = ""
    """The name that `~key` took out of a setting of free names; `value` is then what is left of the setting."""


@cache
def of_schema() -> dict[str, Place]:
    """Every key of the schema with the line of its field."""
    return dict(_fields(Config, ""))


def _fields(part: type[Any], prefix: str) -> Iterator[tuple[str, Place]]:
    path = Path(inspect.getfile(part))
    lines = _lines(path)[part.__name__]
    for item in fields(part):
        if isinstance(item.type, type) and is_dataclass(item.type):
            yield from _fields(item.type, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, Place(path, lines[item.name], SCHEMA)


@cache
def _lines(path: Path) -> dict[str, dict[str, int]]:
    """Class -> field -> line of a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name: {
            entry.target.id: entry.lineno
            for entry in node.body
            if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name)
        }
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
