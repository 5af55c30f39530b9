"""Values in the types of the schema, as OmegaConf makes them: `"5e-3"` for a number becomes 0.005."""

import copy
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sft_runner.config.schema import Config, flatten

MISSING = "???"
"""A value that a later layer has to fill."""
_PLAIN = (str, int, float, bool, type(None))


class NotTyped(Exception):
    """A value that the schema does not take as it is: only OmegaConf can say what becomes of it."""


@cache
def defaults() -> dict[str, Any]:
    """Every key with its default in its type, such as 10.0 where the schema writes 10; not to be changed."""
    usual: Any = OmegaConf.to_object(OmegaConf.structured(Config))
    return {key: value for key, (value, _) in flatten(usual).items()}


def free(key: str) -> bool:
    """Whether any names may be used below this key."""
    return isinstance(defaults().get(key), dict)


def inside(key: str) -> str | None:
    """The setting of free names that `key` lies in, such as `evaluate.gates`; None where it lies in none."""
    end = key.find(".")
    while end >= 0:
        if free(key[:end]):
            return key[:end]
        end = key.find(".", end + 1)
    return None


def typed(key: str, value: Any) -> Any:
    """A value of a setting in its type; a copy. Raises `NotTyped`."""
    if key not in defaults():
        raise NotTyped(key)
    if free(key):
        if not isinstance(value, dict):
            raise NotTyped(key)
        return plain(value)
    if isinstance(value, _PLAIN):
        return _scalar(key, value)
    if isinstance(value, list) and not all(isinstance(entry, _PLAIN) for entry in value):
        raise NotTyped(key)  # all lists of the schema are of texts
    return list(_list(key, repr(plain(value)), _Kept(value)))


def takes(key: str, value: Any) -> bool:
    """Whether a setting takes this value; False too where only OmegaConf knows."""
    try:
        typed(key, value)
    except (NotTyped, OmegaConfBaseException):
        return False
    return True


def plain(value: Any) -> Any:
    """A copy of nested values. Raises `NotTyped` for what is no text, number, list or mapping of texts, and for `???`,
    which a later layer fills, in a list."""
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise NotTyped("a name that is no text")
        return {name: entry if entry == MISSING else plain(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    if not isinstance(value, _PLAIN) or value == MISSING:
        raise NotTyped(value)
    return value


def missing(value: Any) -> bool:
    """Whether something in it is still to be filled."""
    return value == MISSING or isinstance(value, dict) and any(map(missing, value.values()))


def interpolated(value: Any) -> bool:
    """Whether something in it is another key's value: `${train.batch_size}`."""
    if isinstance(value, str):
        return "${" in value
    if isinstance(value, dict):
        return any(map(interpolated, value.values()))
    return isinstance(value, list) and any(map(interpolated, value))


def resolved(values: Mapping[str, Any]) -> dict[str, Any]:
    """Flat values with those of other keys and of the environment put in. Raises what OmegaConf raises."""
    open_keys = [key for key, value in values.items() if interpolated(value)]
    if not open_keys:
        return dict(values)
    tree = OmegaConf.create(nested(values))
    found = {}
    for key in open_keys:
        value = OmegaConf.select(tree, key, throw_on_resolution_failure=True, throw_on_missing=True)
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
        found[key] = typed(key, value)
    return {**values, **found}


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """`{"lora.r": 8}` as `{"lora": {"r": 8}}`."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        *parts, last = key.split(".")
        node = found
        for part in parts:
            node = node.setdefault(part, {})
        node[last] = value
    return found


def config_of(values: Mapping[str, Any]) -> Config:
    """A configuration from flat values in their types; a key that is missing has its default."""
    config = Config()
    for key, value in values.items():
        *parts, last = key.split(".")
        part: Any = config
        for name in parts:
            part = getattr(part, name)
        setattr(part, last, copy.deepcopy(value) if isinstance(value, list | dict) else value)
    return config


class _Kept:
    """A value that takes no part in the key of a cache; its text does."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Kept)


@lru_cache(maxsize=10_000, typed=True)  # 1, 1.0 and True are equal, and not the same
def _scalar(key: str, value: Any) -> Any:
    return _converted(key, value)


@lru_cache(maxsize=1000)
def _list(key: str, text: str, kept: _Kept) -> tuple[Any, ...]:
    return tuple(_converted(key, kept.value))


def _converted(key: str, value: Any) -> Any:
    if value == MISSING:
        raise NotTyped(key)
    if interpolated(value):
        return value
    *parts, last = key.split(".")
    node: Any = _blank()
    for part in parts:
        node = node[part]
    OmegaConf.update(node, last, value)
    made = node[last]
    return OmegaConf.to_object(made) if OmegaConf.is_config(made) else made


@cache
def _blank() -> DictConfig:
    """A configuration into which values are put to be converted; which it holds does not matter."""
    blank: DictConfig = OmegaConf.structured(Config)
    return blank
