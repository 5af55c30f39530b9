"""What is wrong with a command line or a recipe, found before Hydra composes anything.

Hydra stops at the first mistake and speaks of its own internals. Here every override and every key of a recipe is held
against the schema, so that all mistakes are told at once, in the user's words, with the file and the line.
"""

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sft_runner.config.schema import Config, flatten
from sft_runner.config.sources import RecipeFile, groups, options, shown
from sft_runner.errors import UnknownName, UserError, suggestion


def in_overrides(overrides: Iterable[str]) -> list[UserError]:
    """All mistakes of a command line."""
    errors: list[UserError] = []
    blank = OmegaConf.structured(Config)
    for text in overrides:
        try:
            override = OverridesParser.create().parse_override(text)
        except (HydraException, ValueError) as error:
            errors.append(UserError(f"{text}: {_first_line(error)}", _quoted(text)))
            continue
        errors += _in_override(override, blank)
    return errors


def in_recipe(recipe: RecipeFile) -> list[UserError]:
    """All mistakes of a recipe file, each with its line."""
    if recipe.error:
        return [recipe.error]
    lines = _Lines(recipe.path)
    errors: list[UserError] = []
    blank = OmegaConf.structured(Config)
    values = dict(recipe.values or {})
    for entry in values.pop("defaults", None) or []:
        if isinstance(entry, dict):
            for key, choice in entry.items():
                group = str(key).removeprefix("optional ").removeprefix("override ").strip().lstrip("/")
                where = f"{lines.of(('defaults',))}: "
                errors += _in_choice(group, choice, where) if group in groups() else []
                if group not in groups() and not group.startswith("hydra"):
                    errors.append(UnknownName("group", group, groups(), where))
    for path, value in _leaves(values, known=set(flatten(Config()))):
        where = f"{lines.of(path)}: "
        if path[0] == "hardware":
            key = ".".join(path)
            hint = "give it on the command line, or choose another hardware preset"
            errors.append(UserError(f"{where}{key} does not belong into a recipe: it says how to fit a machine", hint))
        else:
            errors += _in_value(".".join(path), value, blank, where)
    return errors


def in_config(config: DictConfig, prefix: str = "") -> Iterator[UserError]:
    """Keys of a composed configuration that the schema does not have (`+key=value` and group files let them in)."""
    kind = OmegaConf.get_type(config)
    if kind is None or not is_dataclass(kind):
        return
    known = [item.name for item in fields(kind)]
    for name in map(str, config):
        key = f"{prefix}{name}"
        if name not in known:
            hint = suggestion(name, known).replace("mean '", f"mean '{prefix}")
            yield UserError(f"key '{key}' does not exist", hint)
        elif isinstance(config._get_node(name), DictConfig) and is_dataclass(OmegaConf.get_type(config, name)):
            yield from in_config(config[name], f"{key}.")


def _in_override(override: Override, blank: DictConfig) -> Iterator[UserError]:
    key = override.key_or_group
    if key.split(".")[0].split("/")[0] == "hydra" or override.package is not None:
        return
    given = override.value()
    values = list(given.list) if isinstance(given, ChoiceSweep) else [given]
    if override.is_sweep_override() and not isinstance(given, ChoiceSweep):
        values = []  # range(), glob(): Hydra resolves them
    if override.is_delete():
        return
    if key in groups():
        for value in values:
            yield from _in_choice(key, value, "")
        return
    if not values:
        yield from _in_key(key, blank, "")
    for value in values:
        yield from _in_value(key, _plain(value), blank, "")


def _in_choice(group: str, value: Any, where: str) -> Iterator[UserError]:
    """Mistakes of `group=value`."""
    known = options(group)
    for name in value if isinstance(value, list) else [value]:
        if name is None or str(name) in known or "${" in str(name):
            continue
        text = str(name)
        if group == "model" and "/" in text:
            yield UserError(
                f"{where}model '{text}' does not exist", f"a hub id or a folder is given with model.name={text}"
            )
        elif group == "data" and ("/" in text or "." in text):
            yield UserError(f"{where}data '{text}' does not exist", f"a file is given with data.path={text}")
        else:
            yield UnknownName(group, text, known, where)


def _in_key(key: str, blank: DictConfig, where: str) -> Iterator[UserError]:
    """A key that the schema does not have."""
    if _open(key):
        return
    settings = flatten(Config())
    if key in settings or any(name.startswith(f"{key}.") for name in settings):
        return
    part, _, last = key.rpartition(".")
    siblings = [name.removeprefix(f"{part}.") for name in settings if name.startswith(f"{part}.")] if part else []
    everywhere = [name for name in settings if name.rpartition(".")[2] == last]
    everywhere.sort(key=lambda name: name.startswith("hardware."))  # a cap of the preset is seldom what is meant
    if everywhere:
        yield UserError(f"{where}key '{key}' does not exist", f"did you mean '{everywhere[0]}'?")
    elif siblings:
        hint = suggestion(last, siblings)
        yield UserError(f"{where}key '{key}' does not exist", hint.replace("mean '", f"mean '{part}."))
    else:
        tops = sorted({name.split(".")[0] for name in settings} | set(groups()))
        yield UserError(f"{where}key '{key}' does not exist", suggestion(key if not part else key.split(".")[0], tops))


def _in_value(key: str, value: Any, blank: DictConfig, where: str) -> Iterator[UserError]:
    """A key that does not exist, or a value of the wrong type."""
    unknown = list(_in_key(key, blank, where))
    if unknown:
        yield from unknown
        return
    if _open(key) or (isinstance(value, str) and "${" in value):
        return
    try:
        OmegaConf.update(blank.copy(), key, value, merge=True)
    except OmegaConfBaseException as error:
        yield UserError(f"{where}{key}={_typed(value)}: {_first_line(error)}", _expected(key))


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


def _open(key: str) -> bool:
    """Whether a key lies in a dictionary where any name may be used."""
    settings = flatten(Config())
    parts = key.split(".")
    above = (".".join(parts[:end]) for end in range(1, len(parts)))
    return any(part in settings and isinstance(settings[part][0], dict) for part in above)


def _plain(value: Any) -> Any:
    """Hydra's quoted strings as plain ones."""
    return value.text if isinstance(value, QuotedString) else value


def _typed(value: Any) -> str:
    """A value as it is typed on the command line."""
    return "null" if value is None else str(value)


def _expected(key: str) -> str:
    value, marks = flatten(Config()).get(key, (None, {}))
    if "choices" in marks:
        return f"known: {', '.join(marks['choices'])}"
    kind = {
        bool: "true or false",
        int: "a whole number",
        float: "a number, such as 2e-4",
        list: "a list, such as [a,b]",
    }
    hint = kind.get(type(value), "")
    if value is None:
        hint = _field_type(key)
    return f"{key} is {hint}" if hint else ""


def _field_type(key: str) -> str:
    """What an open setting takes, from its annotation."""
    part: Any = Config()
    *parents, last = key.split(".")
    for name in parents:
        part = getattr(part, name)
    text = next((str(item.type) for item in fields(part) if item.name == last), "")
    return "a number, such as 2e-4, or null" if "float" in text else "a whole number, or null" if "int" in text else ""


def _first_line(error: Exception) -> str:
    """The first line of a library's message, without its full stop."""
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def _quoted(text: str) -> str:
    """How to write a value that Hydra's grammar does not take as it is."""
    key, _, value = text.partition("=")
    return (
        f"values with = , [ ] {{ }} ( ) or blanks are quoted twice: '{key}=\"{value}\"'" if value else "write key=value"
    )
