"""What is wrong with a recipe or with a file of the user's own `conf/`, each mistake with the file and the line."""

import re
from collections.abc import Iterator, Set
from dataclasses import fields
from functools import lru_cache
from typing import Any

from sft_runner.config.file import FILES
from sft_runner.config.mistakes import in_choice, in_value
from sft_runner.config.nodes import as_written
from sft_runner.config.schema import Config
from sft_runner.config.sources import (
    LOCAL,
    ConfigFile,
    choice,
    group_of,
    groups,
    is_choice,
    is_group,
    options,
    shown,
)
from sft_runner.config.values import defaults, takes
from sft_runner.errors import Mistake, UnknownName, UserError


def in_recipe(recipe: ConfigFile) -> list[UserError]:
    """All mistakes of a recipe."""
    if recipe.error or recipe.values is None:
        return [recipe.error] if recipe.error else []
    return [*_repeated(recipe), *_in_defaults("recipe", recipe), *_in_settings("recipe", "", recipe)]


def in_choice_file(group: str, file: ConfigFile) -> list[UserError]:
    """All mistakes of the file behind a choice, such as `conf/hardware/mybox.yaml`; `conf/sft.yaml` is of no group."""
    if file.error or file.values is None:
        return [file.error] if file.error else []
    package = "" if group in ("", LOCAL) else file.package(group)
    if package and package.split(".")[0] not in {item.name for item in fields(Config)}:
        hint = f"write '# @package _global_' into its first line: a {group} sets keys of the whole configuration"
        text = f"{shown(file.path)}, line 1: there is no part '{package}' that its keys belong to"
        return [UserError(text, hint, Mistake.PACKAGE_HEADER)]
    return [*_repeated(file), *_in_defaults(group, file), *_in_settings(group, package, file)]


def line_of(recipe: str, path: tuple[str, ...], value: Any) -> str:
    """`recipes/mine.yaml, line 7` where a recipe, or one that it extends, gives this value to the key at that path;
    empty where it says nothing of it, or where something else was said over it."""
    queue = recipe.split("+")
    for name in queue:
        file = choice("recipe", name)
        if file is None or file.values is None:
            continue
        if _at(file.values, path) == value:
            return _where(file, path)
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


@lru_cache(maxsize=FILES)
def _in_settings(group: str, package: str, file: ConfigFile) -> tuple[UserError, ...]:
    """Mistakes of keys and values, which depend on nothing but the file: it is parsed once and looked at once, however
    many recipes are made of it."""
    errors: list[UserError] = []
    above = tuple(package.split(".")) if package else ()
    for path, value in _settings(file.values or {}, above):
        if group == "recipe" and path[0] == "hardware":
            key, where = ".".join(path), _where(file, path)
            hint = "give it on the command line, or choose another hardware preset"
            text = f"{where}: {key} does not belong into a recipe: it says how to fit a machine"
            errors.append(UserError(text, hint, Mistake.HARDWARE_IN_RECIPE, key))
        elif group or path[0] != "hydra":
            errors += _in_setting(file, path, value, len(above))
    return (*errors, *_altered(file, above))


def _altered(file: ConfigFile, package: tuple[str, ...]) -> Iterator[UserError]:
    """Text without quotes that is another one as the number that YAML, and so Hydra, reads: the commit `1234e56`. In a
    recipe it is the text."""
    for path, text in as_written(file.root, package):
        read: Any = file.values
        for name in path:
            read = read[int(name) if isinstance(read, list) else name]
        if not isinstance(read, str) and str(read) != text:
            key = ".".join((*package, *path))
            said = f"{_where(file, path)}: {key}={text}: it is read as the number {read}"
            yield UserError(said, "write it in quotes", about=key)


def _in_setting(file: ConfigFile, path: tuple[str, ...], value: Any, above: int) -> Iterator[UserError]:
    """Mistakes of a value; the first `above` names of its path are the file's package."""
    key = ".".join(path)
    if any("." in name for name in path):
        hint = f"a part has its keys below it: {': {'.join(key.split('.'))}: ...{'}' * key.count('.')}"
        yield UserError(f"{_where(file, path[above:])}: key '{key}' is written with a dot", hint, about=key)
    elif not takes(key, value):
        yield from in_value(key, value, f"{_where(file, path[above:])}: ")


def _where(file: ConfigFile, path: tuple[str, ...]) -> str:
    """`recipes/mine.yaml, line 7` for the key at that path."""
    return f"{shown(file.path)}, line {file.line(path)}"


def _repeated(file: ConfigFile) -> Iterator[UserError]:
    """Keys that stand twice: YAML would take the last one, whatever was meant."""
    for path, line in file.repeated:
        where = f"{shown(file.path)}, line {line}: "
        first = f"it stands in line {file.line(path, first=True)} too"
        key = ".".join(path)
        yield UserError(f"{where}key '{key}' is repeated: {first}", "keep one of them", Mistake.REPEATED_KEY, key)


def _in_defaults(group: str, file: ConfigFile) -> Iterator[UserError]:
    """Mistakes in the `defaults:` of a file, which depend on the files that are there."""
    entries = (file.values or {}).get("defaults") or []
    if not isinstance(entries, list):
        yield UserError(f"{_where(file, ('defaults',))}: defaults is a list", "begin each of its lines with '- '")
        return
    for number, entry in enumerate(entries):
        where = f"{_where(file, ('defaults', str(number)))}: "
        plain = isinstance(entry, str) and re.fullmatch(r"[^/@$\s]+", entry) and not entry.endswith(".yaml")
        if group and plain and entry != "_self_" and not is_choice(group, entry):
            yield UnknownName(group, entry, options(group), where, Mistake.UNKNOWN_CHOICE, group)
        for key, named in entry.items() if isinstance(entry, dict) else ():
            other = group_of(str(key))
            if group and other == "recipe" and "override" not in str(key).split():
                hint = f"write '- {named}' in a recipe, which extends the other one"
                yield UserError(f"{where}'{key}' is no choice that a file can make", hint)
            elif is_group(other):
                yield from in_choice(other, named, where)
            elif other != LOCAL and other.split("/")[0] != "hydra":
                yield UnknownName("group", other, groups(), where, Mistake.UNKNOWN_CHOICE, other)


def _settings(values: dict[str, Any], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The settings that a file makes, each with its path in the whole configuration."""
    said = {key: value for key, value in values.items() if key != "defaults"}
    yield from _leaves(said, defaults().keys(), above)


def _leaves(
    values: dict[str, Any], known: Set[str], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The settings below a mapping; a free dictionary is one setting, and so is a part that does not exist."""
    for key, value in values.items():
        here = (*path, str(key))
        part = ".".join(here) + "."
        if isinstance(value, dict) and any(name.startswith(part) for name in known):
            yield from _leaves(value, known, here)
        else:
            yield here, value
