"""Files and words of a command line laid over each other, each value with its place: what OmegaConf's merge does.

Of two mappings of free names the second is laid over the first, name by name; of lists and single values it takes the
place of the first. An interpolation stays as it is written until all layers are there.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override

from sft_runner.config import defaults, values
from sft_runner.config.defaults import NotPlain, Part, Parts
from sft_runner.config.file import ConfigFile
from sft_runner.config.place import COMMAND_LINE, Place, Said, of_schema
from sft_runner.config.sources import group_of


class Laying:
    """Files and words laid over each other."""

    def __init__(self, words: Sequence[str]) -> None:
        """Raises `NotPlain` and `NotTyped` for what only Hydra can compose, and what Hydra raises for mistakes."""
        self.composed = defaults.parts(words)
        places, usual = of_schema(), values.defaults()
        self.values = dict(usual)
        """Key -> what holds."""
        self.said = {key: [Said(_own(value), places[key])] for key, value in usual.items()}
        """Key -> every word for it, the lowest first."""
        self.inside: dict[str, Place] = {}
        """Where each name below a setting of free names is said."""
        for part in self.composed.parts:
            if part.file is not None:
                self._file(part, part.file)
        for override in self.composed.settings:
            self._word(override)
        for said in self.said.values():
            words_for_it = [one.value for one in said if one.value]
            several = isinstance(said[0].value, dict | list) and len(words_for_it) > 1
            if several and any(map(values.interpolated, words_for_it)):
                raise NotPlain  # what OmegaConf lays over another key's list or mapping may change that one too
        if any(map(values.missing, self.values.values())):
            raise NotPlain  # Hydra says what is missing
        there = {".".join((key, *path)) for key in self.values for path in _names(self.values[key], ())}
        self.inside = {key: place for key, place in self.inside.items() if key in there}

    def _file(self, part: Part, file: ConfigFile) -> None:
        """Lay a file over what is there."""
        layer, given = _layer(part, file.path), file.values or {}
        above = tuple(part.package.split(".")) if part.package else ()
        for path, value in _settings({k: v for k, v in given.items() if k != "defaults"}, above):
            if path[0] == "hydra" and part.name == defaults.PRIMARY:
                continue
            self._say(path, part.detected.get(path[-1], value), file, layer, len(above))
        usual = {"name": file.path.stem, **part.detected} if part.detected else {}
        for name in usual.keys() - given.keys():
            self._say((*above, name), usual[name], file, layer, len(above))

    def _say(self, path: tuple[str, ...], value: Any, file: ConfigFile, layer: str, above: int) -> None:
        """Lay one setting over what is there; the first `above` names of its path are the file's package."""
        key = ".".join(path)
        if value == values.MISSING:
            return  # whatever another layer says, or the default
        self._lay(key, values.typed(key, value), Place(file.path, file.line(path[above:]), layer))
        for below in _names(value, ()) if values.free(key) else ():
            where = Place(file.path, file.line((*path[above:], *below)), layer)
            self.inside[".".join((key, *below))] = where

    def _word(self, override: Override) -> None:
        """Lay a word of the command line over what is there, as Hydra does."""
        key, place = override.key_or_group, Place(None, 0, COMMAND_LINE)
        if override.package is not None or "[" in key:
            raise NotPlain
        if override.is_delete():
            self._delete(key, override.value(), place)
            return
        value = override.value()
        if values.missing(value):
            raise NotPlain
        if override.is_add() and not isinstance(value, dict | list) and self._at(key) is not None:
            raise NotPlain  # Hydra says that something is there already
        owner = values.inside(key)
        if owner is not None:
            path = tuple(key[len(owner) + 1 :].split("."))
            node: Any = self.values[owner]
            for name in path[:-1]:
                node = node.get(name, {})
                if not isinstance(node, dict):
                    raise NotPlain
            for below in [(), *_names(value, ())]:
                self.inside[".".join((key, *below))] = place
            for name in reversed(path):
                value = {name: value}
            self._lay(owner, values.typed(owner, value), place)
            return
        found: Iterable[tuple[tuple[str, ...], Any]] = [((key,), value)]
        if isinstance(value, dict) and not values.free(key):
            found = _settings(value, tuple(key.split(".")))
        for path, one in found:
            name = ".".join(path)
            self._lay(name, values.typed(name, one), place)
            for below in _names(one, ()) if values.free(name) else ():
                self.inside[".".join((name, *below))] = place

    def _delete(self, key: str, value: Any, place: Place) -> None:
        """Take a name out of a setting of free names; nothing else can be deleted."""
        owner = values.inside(key)
        if owner is None or value is not None:
            raise NotPlain
        *path, last = key[len(owner) + 1 :].split(".")
        whole = copy.deepcopy(self.values[owner])
        node = whole
        for name in path:
            node = node.get(name) if isinstance(node, dict) else None
        if not isinstance(node, dict) or node.get(last) is None or values.interpolated(whole):
            raise NotPlain
        del node[last]
        self.values[owner] = whole
        self.said[owner].append(Said(whole, place, key))
        for name in [name for name in self.inside if name == key or name.startswith(f"{key}.")]:
            del self.inside[name]

    def _lay(self, key: str, value: Any, place: Place) -> None:
        if isinstance(value, dict):
            whole = copy.deepcopy(self.values[key])
            _lay_over(whole, copy.deepcopy(value))
            self.values[key] = whole
        else:
            self.values[key] = value
        self.said[key].append(Said(value, place))

    def _at(self, key: str) -> Any:
        """The value of a key, also of one below a setting of free names; None where there is none."""
        owner = values.inside(key)
        if owner is None:
            return self.values.get(key)
        node: Any = self.values[owner]
        for name in key[len(owner) + 1 :].split("."):
            node = node.get(name) if isinstance(node, dict) else None
        return node


def _lay_over(whole: dict[str, Any], other: dict[str, Any]) -> None:
    """Lay one mapping over another, name by name. Raises `NotPlain` for a list over a mapping or the reverse, which
    OmegaConf refuses."""
    for name, value in other.items():
        known = whole.get(name)
        if isinstance(known, dict | list) and isinstance(value, dict | list) and type(known) is not type(value):
            raise NotPlain
        if isinstance(known, dict) and isinstance(value, dict):
            _lay_over(known, value)
        elif value != values.MISSING or name not in whole:
            whole[name] = value


def chosen(composed: Parts) -> dict[str, Place]:
    """Where the choice of each group is made."""
    by, found = composed.chosen, dict[str, Place]()
    for part in composed.parts:
        if part.file is None or part.name not in (defaults.PRIMARY, *by.values()):
            continue
        for number, entry in enumerate((part.file.values or {}).get("defaults", ())):
            for key in entry if isinstance(entry, dict) else ():
                if by.get(group := group_of(str(key)), defaults.PRIMARY) == part.name:
                    line = part.file.line(("defaults", str(number)))
                    found[group] = Place(part.file.path, line, _layer(part, part.file.path))
    of_words = [group for group, name in by.items() if name is None]
    return found | dict.fromkeys(of_words, Place(None, 0, COMMAND_LINE))


def _layer(part: Part, path: Path) -> str:
    """`hardware=rtx3060`; a file of no group is told by its path below `conf`."""
    group, _, name = part.name.rpartition("/")
    return f"{group}={path.stem}" if group else f"conf/{name}.yaml"


def _settings(given: Mapping[Any, Any], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The settings of nested values, each with its path in the whole configuration. Raises `NotPlain`."""
    for name, value in given.items():
        if not isinstance(name, str):
            raise NotPlain
        path = (*above, name)
        key = ".".join(path)
        if "." in name:
            raise NotPlain
        if key in values.defaults() or path[0] == "hydra":
            yield path, value
        elif isinstance(value, dict) and any(known.startswith(f"{key}.") for known in values.defaults()):
            yield from _settings(value, path)
        else:
            raise NotPlain


def _own(value: Any) -> Any:
    """A copy where others could change it."""
    return copy.deepcopy(value) if isinstance(value, dict | list) else value


def _names(value: Any, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The path of every name below a mapping."""
    for name, entry in value.items() if isinstance(value, dict) else ():
        yield (*above, str(name))
        yield from _names(entry, (*above, str(name)))
