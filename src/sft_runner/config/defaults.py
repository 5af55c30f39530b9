"""Which files a command line is composed of, in their order: Hydra's own defaults list over files that are read once.

Hydra's rules for `defaults:` (override, optional, packages, lists, parents, interpolation) are many, so its own code
applies them. What takes its time is left out: its own settings, and OmegaConf's for every file.
"""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hydra import version
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.defaults_list import (
    Overrides,
    _update_overrides,
    _validate_self,
    create_defaults_list,
    ensure_no_duplicates_in_list,
    update_package_header,
)
from hydra.core.default_element import ConfigDefault, GroupDefault, InputDefault, ResultDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

from sft_runner import hardware
from sft_runner.config.file import ConfigFile
from sft_runner.config.sources import choice, folders, options
from sft_runner.config.words import parsed

VERSION = "1.3"
"""Whose rules Hydra follows (`version_base`)."""
PRIMARY = "sft"
"""conf/sft.yaml, where Hydra begins."""
SCHEMA = "schema"
"""The first entry in conf/sft.yaml."""


class NotPlain(Exception):
    """Only Hydra itself can compose this."""


@dataclass(frozen=True)
class Part:
    """One file of a composed configuration."""

    name: str
    """Its name for Hydra, such as `hardware/rtx3060`; `schema` for the schema."""
    package: str
    """The part of the configuration that its keys belong to; empty for the whole."""
    file: ConfigFile | None
    """The file; None for the schema."""
    detected: dict[str, Any]
    """Values that `hardware=auto` lays over those of the preset that it took."""


@dataclass(frozen=True)
class Parts:
    """What a command line is composed of."""

    parts: list[Part]
    """Its files, the lowest first."""
    choices: dict[str, Any]
    """Group -> the name chosen, as Hydra tells it."""
    chosen: dict[str, str | None]
    """Group -> the file whose `override` made the choice, such as `recipe/code`; None for the command line. One that is
    missing is chosen in conf/sft.yaml."""
    settings: list[Override]
    """The words of the command line that are no choice of a file."""


def parts(words: Sequence[str]) -> Parts:
    """The files behind a command line. Raises `NotPlain`, and what Hydra raises for mistakes."""
    known = [parsed(word) for word in words]
    if any(override.is_sweep_override() for override in known):
        raise NotPlain
    version.setbase(VERSION)
    files = _Files()
    overrides = Overrides(files, known)
    try:
        listed = _flat(ConfigDefault(path=PRIMARY, primary=True), overrides, files)
        overrides.ensure_overrides_used()
        overrides.ensure_deletions_used()
        ensure_no_duplicates_in_list(listed)
    except _Interpolated:
        found = create_defaults_list(files, PRIMARY, known, prepend_hydra=False, skip_missing=False)
        listed, overrides = found.defaults, found.overrides
    made: list[Part] = []
    for default in listed:
        name = str(default.config_path)
        made.append(Part(name, default.package or "", files.read.get(name), files.detected.get(name, {})))
    if [part.name for part in made if part.file is None] != [SCHEMA] or made[0] != Part(SCHEMA, "", None, {}):
        raise NotPlain
    chosen = {
        key.partition("@")[0]: None if made_by.external_override else made_by.containing_config_path
        for key, made_by in overrides.override_metadata.items()
    }
    return Parts(made, dict(overrides.known_choices), chosen, overrides.config_overrides)


class _Interpolated(Exception):
    """A choice is named through another one: `data: ${model}_rows`."""


def _flat(parent: Any, overrides: Overrides, files: "_Files") -> list[ResultDefault]:
    """The files below an entry of a defaults list, in their order.

    The steps of `hydra._internal.defaults_list._create_defaults_tree_impl` for entries without interpolation: there
    most of the time goes into a map for those.
    """
    if parent.primary:
        parent.update_parent("", "")
    update_package_header(files, parent)
    if overrides.is_deleted(parent):
        overrides.delete(parent)
        return []
    overrides.set_known_choice(parent)
    if parent.get_name() is None:
        return []
    path = parent.get_config_path()
    loaded = None if path.endswith("???") else files.load_config(path)
    if loaded is None:
        if parent.is_optional():
            return []
        raise NotPlain  # Hydra says which are known
    entries = copy.deepcopy(loaded.defaults_list or [])
    if entries or (parent.primary and overrides.append_group_defaults):
        _validate_self(parent, entries, has_config_content=False)
    if parent.primary:
        entries += overrides.append_group_defaults
    _update_overrides(entries, overrides, parent, interpolated_subtree=False)
    below: list[list[ResultDefault]] = []
    for entry in reversed(entries):  # as Hydra does: of two that choose for one group the later is taken
        if entry.is_self():
            entry.update_parent(parent.parent_base_dir, parent.get_package())
            below.append([_result(parent, entry)])
            continue
        if entry.is_override():
            continue
        entry.update_parent(parent.get_group_path(), parent.get_final_package())
        if isinstance(entry, GroupDefault) and overrides.is_overridden(entry):
            overrides.override_default_option(entry)
        if entry.is_interpolation():
            raise _Interpolated
        several = _options(entry) if isinstance(entry, GroupDefault) and entry.is_options() else [entry]
        for one in reversed(several):
            one.update_parent(parent.get_group_path(), parent.get_final_package())
            below.append(_flat(one, overrides, files))
    if not below:  # no entries, or only overrides
        return [_result(parent, parent)]
    return [result for results in reversed(below) for result in results]


def _options(entry: GroupDefault) -> list[InputDefault]:
    """The entries that `tracking: [mlflow, wandb]` stands for."""
    return [
        ConfigDefault(path=f"{entry.group}/{name}", package=entry.package, optional=entry.is_optional())
        for name in entry.get_options()
    ]


def _result(parent: Any, entry: Any) -> ResultDefault:
    """A file in its place; `_self_` is the parent's own."""
    found = ResultDefault(config_path=parent.get_config_path(), package=parent.get_final_package())
    found.is_self = entry.is_self()
    if not found.is_self and isinstance(parent, GroupDefault):
        found.override_key = parent.get_override_key()
    return found


class _Files(ConfigRepository):
    """The folders `conf` and `recipes` as Hydra's repository of configurations, for one command line."""

    def __init__(self) -> None:
        self.folders = folders("conf")
        if any((folder / "recipe").exists() or (folder / f"{SCHEMA}.yaml").exists() for folder in self.folders):
            raise NotPlain  # Hydra would take these before ours
        self.read: dict[str, ConfigFile] = {}
        self.detected: dict[str, dict[str, Any]] = {}
        self.loaded: dict[str, ConfigResult | None] = {}

    def load_config(self, config_path: str) -> ConfigResult | None:
        if config_path not in self.loaded:
            self.loaded[config_path] = self._load(config_path)
        return self.loaded[config_path]

    def config_exists(self, config_path: str) -> bool:
        return self.load_config(config_path) is not None

    def group_exists(self, config_path: str) -> bool:
        if config_path.split("/")[0] == "hydra":
            raise NotPlain
        return config_path == "recipe" or any((folder / config_path).is_dir() for folder in self.folders)

    def get_group_options(self, group_name: str, results_filter: ObjectType | None = ObjectType.CONFIG) -> list[str]:
        return options(group_name)

    def get_sources(self) -> list[ConfigSource]:
        return []

    def _load(self, path: str) -> ConfigResult | None:
        """What Hydra needs to know of a file: its package and its defaults. Its values are read by `layers`."""
        if path == SCHEMA:
            return ConfigResult("", "", {}, {"package": None}, [])  # type: ignore[arg-type]
        group, _, name = path.rpartition("/")
        if group.split("/")[0] == "hydra" or path.endswith(".yaml"):
            raise NotPlain
        if path == "hardware/auto":
            if choice(group, name):
                raise NotPlain  # Hydra would compose both
            found = hardware.detect()
            self.detected[path] = {**found.values, "chosen": found.reason}
            name = found.preset
        file = choice(group, name)
        if file is None:
            return None
        if file.error:
            raise file.error
        self.read[path] = file
        header = {"package": "_global_"} if group == "recipe" else _header(file.text[:HEADER])
        return ConfigResult("", "", {}, header, self._entries(path, file))  # type: ignore[arg-type]

    def _entries(self, path: str, file: ConfigFile) -> list[InputDefault]:
        """The `defaults:` of a file, without what conf/sft.yaml says of Hydra itself."""
        listed = (file.values or {}).get("defaults", [])
        if not isinstance(listed, list) or not all(map(_plain, listed)):
            raise NotPlain
        if path == PRIMARY:
            listed = [entry for entry in listed if isinstance(entry, str) or "hydra/" not in next(iter(entry))]
        key = json.dumps([path, listed])
        if key not in _entries:
            _entries[key] = self._create_defaults_list(path, OmegaConf.create(listed))
        return _entries[key]


_entries: dict[str, list[InputDefault]] = {}
"""The `defaults:` that were read, by their text; Hydra copies what it changes."""


def _plain(entry: Any) -> bool:
    """Whether an entry is a name, or one group with its choice."""
    if isinstance(entry, str):
        return True
    if not isinstance(entry, dict) or len(entry) != 1:
        return False
    key, named = next(iter(entry.items()))
    names = named if isinstance(named, list) else [named]
    return isinstance(key, str) and all(isinstance(name, str) or named is None for name in names)


HEADER = 512
"""Characters in which Hydra looks for a `# @package`."""


@lru_cache(maxsize=4096)
def _header(text: str) -> dict[str, str | None]:
    return ConfigSource._get_header_dict(text)
