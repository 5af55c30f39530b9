"""A recipe, or the file of a choice in `conf/`, as it lies on disk: its values and the line of each key."""

import codecs
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader

from sft_runner.config import nodes
from sft_runner.errors import Mistake, UserError

FILES = 2000
"""Files whose parse is remembered, by their bytes."""
_PROGRAM = re.compile(r"(?:^|[/\\])sft[-_]runner(?:\.exe)?$")
"""What a command of the pipeline begins with: `python -m sft_runner`, or `sft-runner`."""


@dataclass(frozen=True, eq=False)  # a file that was read again is another one
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
    root: yaml.MappingNode | None = field(default=None, repr=False)
    """Its YAML with the marks; None where it is broken or empty."""
    repeated: list[tuple[tuple[str, ...], int]] = field(default_factory=list)
    """Keys that stand more than once in one mapping: path and line of each one after the first. YAML takes the last."""

    @property
    def header(self) -> dict[str, str]:
        """The comment at its top: `# goal: ...` and so on."""
        found: dict[str, str] = {}
        for key, _, value in (line.partition(":") for line in _joined(_first_block(self._written))):
            if value:
                found.setdefault(key.strip(), value.strip())
        return found

    @cached_property
    def comment(self) -> str:
        """The lines that begin with `#`, without it."""
        return "\n".join(line[1:].strip() for line in self._written.splitlines() if line[:1] == "#")

    @property
    def words(self) -> list[str]:
        """The words of the command in the header, such as `recipe=code` and `hardware=rtx3060`; empty without one, or
        where another program runs."""
        try:
            said = shlex.split(self.header.get("command", ""), comments=True)
        except ValueError:  # an open quote
            return []
        began = next((number for number, word in enumerate(said) if _PROGRAM.search(word)), None)
        if began is None:
            return []
        behind = list(takewhile(lambda word: word not in ("&&", "||", ";", "|", "&"), said[began + 1 :]))
        if any(word[:1] not in ("-", "+", "~") and "=" not in word for word in behind[:1]):
            return []  # `sft-runner lock recipe=code` runs no pipeline
        return [word for word in behind if "=" in word or word[:1] in ("~", "+")]

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
        try:
            return self.text or self.path.read_text(encoding="utf-8-sig", errors="replace")
        except OSError:  # `error` tells of it
            return ""


def read(path: Path) -> ConfigFile:
    """The file as it is; that it cannot be read, or what is wrong with its YAML, is in `error`."""
    try:
        return _parsed(path, path.read_bytes(), os.getcwd())
    except OSError as error:  # a folder, a link to nowhere, no permission
        return _broken(path, f": cannot be read: {error.strerror}", "call it otherwise, or make it readable")


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
    recipe = path.parent.name == "recipes"
    again: list[tuple[tuple[str, ...], int]] = []
    try:
        text = written.decode("utf-8-sig")  # line ends as they are
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            again = nodes.repeated(root)
            values = None if root is None else loader.construct_document(root)
        finally:
            loader.dispose()
    except nodes.Refused as error:
        return _broken(path, f", line {error.line}: {error}", error.hint, Mistake.WRONG_VALUE)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        hint = "check the indentation, the colons and the quotes there"
        return _broken(path, f", line {mark.line + 1 if mark else 1}: not valid YAML: {error.problem}", hint)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return _broken(path, f": not valid YAML: {error}", "save it as UTF-8 text")
    except (ValueError, LookupError) as error:  # a number of 5000 digits, or `!!bool maybe`
        return _broken(path, f": not valid YAML: {error}", "write it in quotes")
    except RecursionError:
        return _broken(path, ": its values are nested too deep, or hold themselves", "write them flat")
    if values is None and not recipe:
        values = {}
    if not isinstance(values, dict):
        what, example = ("a recipe", "recipes/quickstart.yaml") if recipe else ("this file", "conf/hardware/cpu.yaml")
        return _broken(path, f": {what} is a mapping of keys to values", f"see {example}")
    if recipe:
        values = nodes.with_texts(root, values)
    elif written.startswith(codecs.BOM_UTF8) and b"@package" in written:
        hint = "save it as UTF-8 without a byte order mark, behind which Hydra does not see the '# @package'"
        return _broken(path, ", line 1: it begins with a byte order mark", hint, Mistake.PACKAGE_HEADER)
    return ConfigFile(path, values, None, text, root, again)


def _broken(path: Path, what: str, hint: str, kind: Mistake = Mistake.NOT_YAML) -> ConfigFile:
    return ConfigFile(path, None, UserError(f"{shown(path)}{what}", hint, kind))


def _first_block(text: str) -> list[str]:
    """The comment before the first line of YAML, without its `#`; empty lines between do not end it."""
    lines = takewhile(lambda line: not line.strip() or line[:1] == "#", text.splitlines())
    return [line[1:].strip() for line in lines if line.strip()]


def _joined(lines: Iterable[str]) -> Iterator[str]:
    """Lines with those that go on behind a backslash."""
    whole = ""
    for line in lines:
        whole += line
        if whole.endswith("\\"):
            whole = whole[:-1]
            continue
        yield whole
        whole = ""
    if whole:
        yield whole


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
