"""The file of another program, read as data: nothing in it runs, and nothing in it grows.

Only mappings, lists and plain values are taken. Aliases are counted as often as they stand for something, so that a
small file cannot become a large one.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sft_runner.errors import UserError

LARGEST_BYTES = 1_000_000
LARGEST_VALUES = 10_000
"""Values in a file, each alias counted as what it stands for."""
ROWS = ("datasets", "test_datasets", "pretraining_dataset")
"""Keys that hold a list of data sets, whose own keys are told of one by one."""
_PLAIN = "tag:yaml.org,2002:"
_MERGE = f"{_PLAIN}merge"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Source:
    """A file of another program."""

    path: Path
    """Its file."""
    values: dict[str, Any]
    """What it says."""
    lines: dict[str, int]
    """Key -> its line, also `datasets[0].path`; empty for JSON."""
    comment: str
    """The first comment at its top; empty without one."""

    def keys(self) -> dict[str, Any]:
        """Every key with its value; those of data sets stand as `datasets[0].path`."""
        found: dict[str, Any] = {}
        for key, value in self.values.items():
            if (
                key in ROWS
                and isinstance(value, list)
                and value
                and all(isinstance(row, dict) and row for row in value)
            ):
                for index, row in enumerate(value):
                    found |= {f"{key}[{index}].{name}": inner for name, inner in _opened(row)}
            else:
                found[key] = value
        return found


def read(path: Path) -> Source:
    """The file. Raises `UserError` for one that is not there, is no YAML (or JSON), or holds no single mapping."""
    text = _text(path)
    if path.suffix.lower() == ".json":
        values, lines = _json(path, text), dict[str, int]()
    else:
        values, lines = _yaml(path, text)
    if not isinstance(values, dict):
        what = "a list" if isinstance(values, list) else "a single value"
        raise UserError(f"{path}: holds {what}, not a mapping of keys to values", "name the file of one training run")
    if not values:
        raise UserError(f"{path}: holds nothing", "name the file of a training run")
    return Source(path, _plain(values), lines, _comment(text))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise UserError(f"{path}: has more than {LARGEST_BYTES:,} bytes", "name the configuration, not the data")
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no UTF-8 text: {error.reason}", "save it as UTF-8") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder", "name a file in it") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "a relative path starts at the folder you are in") from None


def _json(path: Path, text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"{path}: '{name}' is written twice in one mapping", "remove one of them")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=once)
    except RecursionError:
        raise UserError(f"{path}: is nested too deeply", "name the file of a training run") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}", "mend it there") from None


def _yaml(path: Path, text: str) -> tuple[Any, dict[str, int]]:
    """The one document of a file, and the lines of its keys."""
    loader = _Loader(text)
    try:
        if not loader.check_node():
            raise UserError(f"{path}: holds nothing", "name the file of a training run")
        root = loader.get_node()
        if loader.check_node():
            raise UserError(f"{path}: holds several documents", "leave one of those that '---' separates")
        if _size(root, {}, set(), path) > LARGEST_VALUES:
            raise UserError(f"{path}: its aliases stand for more than {LARGEST_VALUES:,} values", "write them out")
        return loader.construct_document(root), dict(_lines(root))
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: {error.problem}", "only plain YAML is read: no code, no own types") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        said = str(error).partition("\n")[0]
        raise UserError(f"{path}: not valid YAML: {said}", "save it as UTF-8 text") from None
    except RecursionError:
        raise UserError(f"{path}: is nested too deeply", "name the file of a training run") from None
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, int], above: set[int], path: Path) -> int:
    """How many values a node stands for, its aliases written out. Raises `UserError` for one that holds itself."""
    if id(node) in above:
        raise UserError(f"{path}, line {node.start_mark.line + 1}: an alias holds itself", "write it out")
    if id(node) not in known:
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            _as_texts(node, path)
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = list(node.value)
        known[id(node)] = 1 + sum(_size(part, known, above | {id(node)}, path) for part in parts)
    return known[id(node)]


def _as_texts(node: yaml.MappingNode, path: Path) -> None:
    """Take the keys of a mapping as they are typed. Raises `UserError` for one that is written twice."""
    lines: dict[str, int] = {}
    for name, _ in node.value:
        if not isinstance(name, yaml.ScalarNode) or name.tag == _MERGE:
            continue
        line = name.start_mark.line + 1
        if name.value in lines:
            where = f"{path}, line {line}: '{name.value}' is written twice, first in line {lines[name.value]}"
            raise UserError(where, "remove one of them")
        lines[name.value] = line
        if name.tag.startswith(_PLAIN):
            name.tag = f"{_PLAIN}str"


def _lines(root: yaml.Node) -> Iterator[tuple[str, int]]:
    """The lines of the keys that are told of."""
    for name, value in root.value if isinstance(root, yaml.MappingNode) else ():
        yield str(name.value), name.start_mark.line + 1
        if name.value in ROWS and isinstance(value, yaml.SequenceNode):
            for index, row in enumerate(value.value):
                for inner, held in row.value if isinstance(row, yaml.MappingNode) else ():
                    key = f"{name.value}[{index}].{inner.value}"
                    yield key, inner.start_mark.line + 1
                    for part, _ in held.value if isinstance(held, yaml.MappingNode) and inner.value == "type" else ():
                        yield f"{key}.{part.value}", part.start_mark.line + 1


def _opened(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The keys of a data set; a prompt of the user's own has keys itself: `type.format`."""
    for name, inner in row.items():
        if name == "type" and isinstance(inner, dict) and inner:
            yield from ((f"type.{part}", value) for part, value in inner.items())
        else:
            yield name, inner


def _plain(value: Any) -> Any:
    """The value with dates as texts."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _comment(text: str) -> str:
    """The first line of the comment at the top that says something; headings such as `### model` say nothing."""
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            break
        said = line.removeprefix("#").strip()
        if said and not line.startswith("##") and re.search(r"\w+\s+\w+", said):
            return said[:100]
    return ""
