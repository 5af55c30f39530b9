"""The nodes of a YAML file: keys that stand twice, what no configuration can hold, and texts that look like numbers."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, get_args, get_type_hints

import yaml
from omegaconf._utils import get_value_kind
from omegaconf.errors import GrammarParseError

from sft_runner.config.schema import Config
from sft_runner.config.setting import parts_of

_TAG = "tag:yaml.org,2002:"
_PLAIN = frozenset(_TAG + name for name in ("bool", "float", "int", "map", "merge", "null", "seq", "str"))
"""Tags of values that a configuration can hold."""
_NUMBERS = (_TAG + "float", _TAG + "int")


class Refused(Exception):
    """A node that no configuration can hold: what is wrong, its line, and a hint."""

    def __init__(self, text: str, node: yaml.Node, hint: str) -> None:
        super().__init__(text)
        self.line = node.start_mark.line + 1
        self.hint = hint


def repeated(root: yaml.Node | None) -> list[tuple[tuple[str, ...], int]]:
    """Path and line of the keys that stand in one mapping again. Raises `Refused`, and `RecursionError` for what
    holds itself."""
    return list(_repeated(root, (), set(), ()))


def as_written(root: yaml.Node | None, package: Sequence[str] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Path and text of what the schema wants as text where YAML found a number: the commit `1234e56` is none. The keys
    of the file belong to this part of the configuration; `root` was read to values already, which lays out its `<<`."""
    wanted: Any = _texts()
    for name in package:
        wanted = wanted.get(name) if isinstance(wanted, dict) else None
    yield from _numbers(root, wanted, ())


def with_texts(root: yaml.Node | None, values: dict[str, Any]) -> dict[str, Any]:
    """The values of a recipe with each such text as it is written."""
    for path, text in as_written(root):
        values = _with(values, path, text)
    return values


def _repeated(
    node: yaml.Node | None, path: tuple[str, ...], seen: set[int], above: tuple[int, ...]
) -> Iterator[tuple[tuple[str, ...], int]]:
    """An anchor is looked at once. `seen` and `above` are ids of nodes."""
    if id(node) in above:
        raise RecursionError
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    _refuse(node)
    above = (*above, id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, entry in enumerate(node.value):
            yield from _repeated(entry, (*path, str(number)), seen, above)
        return
    known: set[tuple[str, str]] = set()
    for name, value in node.value if isinstance(node, yaml.MappingNode) else ():
        here = (*path, str(name.value))
        if isinstance(name, yaml.ScalarNode) and name.tag != _TAG + "merge":
            if name.tag not in _PLAIN or name.tag == _TAG + "null":
                raise Refused(f"the name of '{'.'.join(here)}' is no text", name, "write it in quotes")
            if (name.tag, name.value) in known:
                yield here, name.start_mark.line + 1
            known.add((name.tag, name.value))
        yield from _repeated(value, here, seen, above)


def _refuse(node: yaml.Node) -> None:
    """Raises `Refused` for a tag that is no plain value's, and for a `${` without its end."""
    if node.tag not in _PLAIN and node.tag.startswith(_TAG):  # the loader says what is wrong with others
        kind = node.tag.removeprefix(_TAG)
        raise Refused(f"!!{kind} is no value of a configuration", node, "take it out, or write the value in quotes")
    if node.tag == _TAG + "str" and isinstance(node, yaml.ScalarNode) and "${" in node.value:
        try:
            get_value_kind(node.value, strict_interpolation_validation=True)
        except GrammarParseError:
            hint = "the value of another key is ${part.key}; text that is meant as it stands begins with \\${"
            raise Refused(f"'{node.value}' is not the value of another key", node, hint) from None


def _numbers(node: yaml.Node | None, wanted: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """`wanted` is what `_texts` says of the node. Of a key that stands there twice the last one holds."""
    if wanted is str and isinstance(node, yaml.ScalarNode) and node.tag in _NUMBERS:
        yield path, node.value
    elif wanted is list and isinstance(node, yaml.SequenceNode):
        for number, entry in enumerate(node.value):
            yield from _numbers(entry, str, (*path, str(number)))
    elif isinstance(wanted, dict) and isinstance(node, yaml.MappingNode):
        last = {name.value: entry for name, entry in node.value if isinstance(name, yaml.ScalarNode)}
        for key, entry in last.items():
            yield from _numbers(entry, wanted.get(key), (*path, key))


def _with(values: Any, path: tuple[str, ...], text: str) -> Any:
    """A copy, for an anchor may hold the same values elsewhere."""
    if not path:
        return text
    key: Any = int(path[0]) if isinstance(values, list) else path[0]
    copy = values.copy()
    copy[key] = _with(values[key], path[1:], text)
    return copy


@cache
def _texts() -> dict[str, Any]:
    """The schema's parts down to its texts (`str`) and lists of texts (`list`)."""
    return _texts_of(Config)


def _texts_of(kind: type[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    parts = parts_of(kind)
    for name, hint in get_type_hints(kind).items():
        if name in parts:
            found[name] = _texts_of(parts[name])
        elif hint is str or set(get_args(hint)) == {str, type(None)}:
            found[name] = str
        elif hint == list[str]:
            found[name] = list
    return found
