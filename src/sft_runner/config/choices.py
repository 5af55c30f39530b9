"""The files of a config group as plain values, for what looks at many choices at once without composing each."""

from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sft_runner.config.schema import Config, Hardware, Model
from sft_runner.config.sources import ConfigFile, folders, read

_KINDS: dict[str, type[Any]] = {"hardware": Hardware, "model": Model}
"""What the values of a group are; those of any other group lie anywhere in a `Config`."""


def choices(group: str) -> dict[str, dict[str, Any]]:
    """Name -> values of every file of a group, with those of the files that it extends; of two with one name the
    user's own is taken. Not to be changed.

    A file that Hydra could not compose by itself is left out: only a run that asks for it needs to know why.
    """
    files: dict[str, ConfigFile] = {}
    for folder in folders("conf"):
        for path in sorted((folder / group).glob("*.yaml")):
            if path.stem not in files:
                files[path.stem] = read(path)
    return _choices(group, tuple(files.items()))


@lru_cache(maxsize=64)
def _choices(group: str, known: tuple[tuple[str, ConfigFile], ...]) -> dict[str, dict[str, Any]]:
    """The same of these files; one that was read again is another one."""
    files = dict(known)
    found = {name: _values(name, files, ()) for name in files}
    return {name: built for name, values in found.items() if values is not None and (built := _built(group, values))}


def lay_over(values: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Lay `other` over `values`, part by part."""
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            lay_over(values[key], value)
        else:
            values[key] = value


def same_keys(whole: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `whole` that has the keys of `keys`; a mapping that is free to have others is taken as it is."""
    return {
        key: same_keys(whole[key], value)
        if isinstance(value, dict) and isinstance(whole[key], dict) and value.keys() <= whole[key].keys()
        else whole[key]
        for key, value in keys.items()
    }


def _values(name: str, files: Mapping[str, ConfigFile], below: tuple[str, ...]) -> dict[str, Any] | None:
    """What a file says, laid over the files of its group that its `defaults` name; None where it says more than that.

    `below` are the files that extend this one.
    """
    if name not in files or name in below:
        return None
    said = files[name].values
    if said is None:
        return None
    parents = said.get("defaults") or []
    said = {key: value for key, value in said.items() if key != "defaults"}
    if not isinstance(parents, list) or not all(isinstance(entry, str) for entry in parents):
        return None
    found: dict[str, Any] = {}
    for entry in parents if "_self_" in parents else [*parents, "_self_"]:
        values = said if entry == "_self_" else _values(entry, files, (*below, name))
        if values is None:
            return None
        lay_over(found, values)
    return found


@cache
def _blank(group: str) -> DictConfig:
    """The schema of what a group's files say, made once: it takes longer than all else here."""
    return cast(DictConfig, OmegaConf.structured(_KINDS.get(group, Config)))


def _built(group: str, values: dict[str, Any]) -> dict[str, Any] | None:
    """The values in the types of the schema; None where they do not go with it."""
    try:
        whole: Any = OmegaConf.to_container(OmegaConf.merge(_blank(group), values), resolve=True)
    except OmegaConfBaseException:
        return None
    return same_keys(whole, values)
