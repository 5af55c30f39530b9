"""Settings as YAML with their origins as comments, which the program reads as it reads a file of its own."""

import math
import re
from collections.abc import Sequence
from typing import Any

import yaml

from sft_runner.config.file import implicit_resolvers
from sft_runner.review.explain.screen import safe
from sft_runner.review.show.entries import Entry

WIDEST = 60
"""Column that comments begin at, unless all lines are shorter; longer lines have theirs two blanks behind."""


def text(entries: Sequence[Entry]) -> str:
    """YAML of nested parts; comments are aligned."""
    lines: list[tuple[str, str]] = []
    above: tuple[str, ...] = ()
    for entry in entries:
        parts = entry.path[:-1]
        shared = next((i for i, (one, other) in enumerate(zip(parts, above, strict=False)) if one != other), None)
        shared = min(len(parts), len(above)) if shared is None else shared
        lines += [(f"{'  ' * depth}{_written(parts[depth])}:", "") for depth in range(shared, len(parts))]
        name = entry.path[-1]
        value = _written(safe(entry.value, ".".join(entry.path)))
        lines.append((f"{'  ' * len(parts)}{_written(name)}: {value}", entry.origin))
        above = parts
    column = min(max((len(line) for line, _ in lines), default=0) + 2, WIDEST)
    return "\n".join(f"{line:<{column - 2}}  # {origin}" if origin else line for line, origin in lines)


def plain(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {
            "key": ".".join(entry.path),
            "value": safe(entry.value, ".".join(entry.path)),
            "origin": entry.origin,
            "layer": entry.place.layer if entry.place else "filled in",
            "file": entry.place.short.rpartition(":")[0] if entry.place and entry.place.file else None,
            "line": entry.place.line or None if entry.place else None,
        }
        for entry in entries
    ]


class _Dumper(yaml.SafeDumper):
    """YAML in which text that would be read as a number has quotes."""

    yaml_implicit_resolvers = implicit_resolvers()

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _written(value: Any) -> str:
    """A value in one line of YAML."""
    if isinstance(value, float) and math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return f"{value:.1f}"
    made: str = yaml.dump(
        _escaped(value), Dumper=_Dumper, default_flow_style=True, width=math.inf, allow_unicode=True, sort_keys=False
    )
    return made.removesuffix("...\n").strip()


def _escaped(value: Any) -> Any:
    """Text in which `${` is no other key's value; OmegaConf takes backslashes before it two by two."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    if isinstance(value, list):
        return [_escaped(entry) for entry in value]
    return {key: _escaped(entry) for key, entry in value.items()} if isinstance(value, dict) else value
