"""What is wrong with a recipe or with a file of the user's own `conf/`, each mistake with the file and the line."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from sft_runner.config.mistakes import in_choice, in_value
from sft_runner.config.schema import Config, flatten
from sft_runner.config.sources import ConfigFile, group_of, groups, recipes, shown
from sft_runner.errors import UnknownName, UserError


def in_recipe(recipe: ConfigFile) -> list[UserError]:
    """All mistakes of a recipe."""
    if recipe.error or recipe.values is None:
        return [recipe.error] if recipe.error else []
    lines = _Lines(recipe.path)
    errors = list(_in_defaults(recipe, lines))
    for path, value in _settings(recipe.values, ()):
        where = f"{lines.of(path)}: "
        if path[0] == "hardware":
            key = ".".join(path)
            hint = "give it on the command line, or choose another hardware preset"
            errors.append(UserError(f"{where}{key} does not belong into a recipe: it says how to fit a machine", hint))
        else:
            errors += in_value(".".join(path), value, where)
    return errors


def in_choice_file(group: str, file: ConfigFile) -> list[UserError]:
    """All mistakes of the file behind a choice, such as `conf/hardware/mybox.yaml`."""
    if file.error or file.values is None:
        return [file.error] if file.error else []
    package = file.package(group)
    if package and package.split(".")[0] not in {item.name for item in fields(Config)}:
        hint = f"write '# @package _global_' into its first line: a {group} sets keys of the whole configuration"
        return [UserError(f"{shown(file.path)}, line 1: there is no part '{package}' that its keys belong to", hint)]
    lines = _Lines(file.path)
    errors = list(_in_defaults(file, lines))
    above = tuple(package.split(".")) if package else ()
    for path, value in _settings(file.values, above):
        errors += in_value(".".join(path), value, f"{lines.of(path[len(above) :])}: ")
    return errors


def line_of(recipe: str, path: tuple[str, ...], value: Any) -> str:
    """`recipes/mine.yaml, line 7` where a recipe, or one that it extends, gives this value to the key at that path;
    empty where it says nothing of it, or where something else was said over it."""
    queue = recipe.split("+")
    for name in queue:
        file = recipes().get(name)
        if file is None or file.values is None:
            continue
        if _at(file.values, path) == value:
            return _Lines(file.path).of(path)
        extended = file.values.get("defaults")
        queue += [
            entry for entry in extended or () if isinstance(entry, str) and entry != "_self_" and entry not in queue
        ]
    return ""


def _at(values: Any, path: tuple[str, ...]) -> Any:
    """What stands at a path; nothing equals what is not there."""
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return _MISSING
        values = values[key]
    return values


_MISSING = object()


def _in_defaults(file: ConfigFile, lines: "_Lines") -> Iterator[UserError]:
    """Mistakes in the `defaults:` of a file."""
    entries = (file.values or {}).get("defaults") or []
    if not isinstance(entries, list):
        yield UserError(f"{lines.of(('defaults',))}: defaults is a list", "begin each of its lines with '- '")
        return
    for entry in entries:
        for key, choice in entry.items() if isinstance(entry, dict) else ():
            group = group_of(str(key))
            where = f"{lines.of(('defaults',))}: "
            if group in groups():
                yield from in_choice(group, choice, where)
            elif not group.startswith("hydra"):
                yield UnknownName("group", group, groups(), where)


def _settings(values: dict[str, Any], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The settings that a file makes, each with its path in the whole configuration."""
    said = {key: value for key, value in values.items() if key != "defaults"}
    yield from _leaves(said, set(flatten(Config())), above)


def _leaves(
    values: dict[str, Any], known: set[str], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The settings below a mapping; a free dictionary is one setting."""
    for key, value in values.items():
        here = (*path, str(key))
        if isinstance(value, dict) and ".".join(here) not in known:
            yield from _leaves(value, known, here)
        else:
            yield here, value


class _Lines:
    """Line numbers of the keys in a YAML file; parsed with its marks when the first is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root: yaml.Node | None = None

    def of(self, keys: tuple[str, ...]) -> str:
        """`recipes/mine.yaml, line 7` for the key at that path."""
        self.root = self.root or yaml.compose(self.path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        node, line = self.root, 1
        for key in keys:
            for name, value in node.value if isinstance(node, yaml.MappingNode) else ():
                if name.value == key:
                    node, line = value, name.start_mark.line + 1
                    break
        return f"{shown(self.path)}, line {line}"
