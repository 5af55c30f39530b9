"""A recipe, or the file of a choice in `conf/`, as it lies on disk: its values and the line of each key."""

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader

from sft_runner.errors import UserError

FILES = 2000
"""Files whose parse is remembered, by their bytes."""
_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True)
class ConfigFile:
    """A recipe, or the file of a choice in `conf/`."""

    path: Path
    """Its file."""
    values: dict[str, Any] | None
    """What it says, not to be changed; None where it is broken."""
    error: UserError | None
    """What is wrong with it."""
    text: str = ""
    """Its text when `values` was read; empty where it is broken."""
    root: yaml.MappingNode | None = field(default=None, repr=False, compare=False)
    """Its YAML with the marks; None where it is broken or empty."""
    repeated: list[tuple[tuple[str, ...], int]] = field(default_factory=list, compare=False)
    """Keys that stand more than once in one mapping: path and line of each one after the first. YAML takes the last."""

    @property
    def header(self) -> dict[str, str]:
        """The comment at its top: `# goal: ...` and so on."""
        lines = (line.partition(":") for line in self.comment.splitlines())
        return {key.strip(): value.strip() for key, _, value in lines if value}

    @cached_property
    def comment(self) -> str:
        """The lines that begin with `#`, without it."""
        return "\n".join(line[1:].strip() for line in self._written.splitlines() if line[:1] == "#")

    @property
    def words(self) -> list[str]:
        """The words of the command in the header, such as `recipe=code` and `hardware=rtx3060`; empty without one."""
        try:
            said = shlex.split(self.header.get("command", ""), comments=True)
        except ValueError:  # an open quote
            return []
        return [word for word in said[1:] if "=" in word or word[:1] in ("~", "+")]

    def package(self, group: str) -> str:
        """The part of the configuration that its keys belong to; empty for the whole (`# @package _global_`)."""
        named = group
        for line in filter(str.strip, self._written.splitlines()):
            if not (header := re.match(r"\s*#\s*@(\w+)\s+(\S+)", line)):
                break  # Hydra reads no further either
            named = header[2] if header[1] == "package" else named
        return {"_group_": group, "_global_": ""}.get(named, named)

    def line(self, path: tuple[str, ...], first: bool = False) -> int:
        """The line of the key at a path, `("data", "path")`, or of what is above it, where there is none; an entry of
        a list is its number. Of a key that stands there twice it is the one that holds, or the `first`."""
        node: yaml.Node | None = self.root
        line = 1
        for key in path:
            found = _below(node, key, first)
            if found is None:
                break
            line, node = found
        return line

    @cached_property
    def _written(self) -> str:
        return self.text or self.path.read_text(encoding="utf-8-sig", errors="replace")


def read(path: Path) -> ConfigFile:
    """The file as it is; what is wrong with its YAML is in `error`. Raises `OSError`."""
    return _parsed(path, path.read_bytes(), os.getcwd())


def shown(path: Path) -> str:
    """A path as the user would type it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def implicit_resolvers() -> Any:
    """How text without quotes is told from numbers, for yaml's dumpers."""
    return get_yaml_loader().yaml_implicit_resolvers


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as OmegaConf reads it, in C: `5e-3` is a number, a date is text."""

    yaml_implicit_resolvers = implicit_resolvers()


@lru_cache(maxsize=FILES)
def _parsed(path: Path, written: bytes, folder: str) -> ConfigFile:
    """The file with these bytes; messages show its path from `folder`, the working directory."""
    repeated: list[tuple[tuple[str, ...], int]] = []
    try:
        text = written.decode("utf-8-sig")  # line ends as they are
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            repeated = list(_repeated(root, (), set(), ()))
            values = None if root is None else loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        hint = "check the indentation, the colons and the quotes there"
        return _broken(path, f", line {mark.line + 1 if mark else 1}: not valid YAML: {error.problem}", hint)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return _broken(path, f": not valid YAML: {error}", "save it as UTF-8 text")
    except ValueError as error:  # a number that Python does not take, such as one of 5000 digits
        return _broken(path, f": not valid YAML: {error}", "write it in quotes")
    except RecursionError:
        return _broken(path, ": its values are nested too deep, or hold themselves", "write them flat")
    recipe = path.parent.name == "recipes"
    if values is None and not recipe:
        values = {}
    if not isinstance(values, dict):
        what, example = ("a recipe", "recipes/quickstart.yaml") if recipe else ("this file", "conf/hardware/cpu.yaml")
        return _broken(path, f": {what} is a mapping of keys to values", f"see {example}")
    return ConfigFile(path, values, None, text, root, repeated)


def _broken(path: Path, what: str, hint: str) -> ConfigFile:
    return ConfigFile(path, None, UserError(f"{shown(path)}{what}", hint))


def _below(node: yaml.Node | None, key: str, first: bool) -> tuple[int, yaml.Node] | None:
    """Line and node of a key of a mapping, or of an entry of a list."""
    if isinstance(node, yaml.SequenceNode) and key.isdecimal() and int(key) < len(node.value):
        entry = node.value[int(key)]
        return entry.start_mark.line + 1, entry
    found = None
    for name, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if name.value == key and not (first and found):
            found = name.start_mark.line + 1, value
    return found


def _repeated(
    node: yaml.Node | None, path: tuple[str, ...], seen: set[int], above: tuple[int, ...]
) -> Iterator[tuple[tuple[str, ...], int]]:
    """The keys that stand in one mapping again; an anchor is looked at once. Raises `RecursionError` for a value that
    holds itself. `seen` and `above` are ids of nodes."""
    if id(node) in above:
        raise RecursionError
    if node is None or isinstance(node, yaml.ScalarNode) or id(node) in seen:
        return
    seen.add(id(node))
    above = (*above, id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, entry in enumerate(node.value):
            yield from _repeated(entry, (*path, str(number)), seen, above)
        return
    known: set[tuple[str, str]] = set()
    for name, value in node.value:
        here = (*path, str(name.value))
        if isinstance(name, yaml.ScalarNode) and name.tag != _MERGE:
            if (name.tag, name.value) in known:
                yield here, name.start_mark.line + 1
            known.add((name.tag, name.value))
        yield from _repeated(value, here, seen, above)
