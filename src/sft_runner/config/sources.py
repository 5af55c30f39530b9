"""Where configuration comes from: the user's own `./conf` and `./recipes` first, then the shipped ones.

`conf/` is put on Hydra's search path by a plugin. Recipes are stored one by one, so that they need no package header,
and so that a broken one stops only the run that asks for it.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from sft_runner import hardware
from sft_runner.config.file import ConfigFile, read, shown
from sft_runner.config.schema import Config, flatten
from sft_runner.errors import UserError

__all__ = [
    "PACKAGE",
    "ConfigFile",
    "architecture_of",
    "choice",
    "folders",
    "forget",
    "group_of",
    "groups",
    "is_choice",
    "is_group",
    "left_out",
    "options",
    "read",
    "recipes",
    "register",
    "shown",
    "steady",
    "warn_of_broken",
    "without_local",
]

PACKAGE = Path(__file__).parents[1]
LOCAL = "local"
"""The group of this machine's own settings, which are not checked in."""
_left_out: ContextVar[bool] = ContextVar("left_out", default=False)
_steady: ContextVar[dict[tuple[str, ...], Any] | None] = ContextVar("steady", default=None)
"""What was read of the folders, where they are taken to stay as they are."""


def folders(name: str) -> list[Path]:
    """The folders called `name` (`conf` or `recipes`), the user's own first."""
    return list(_once("folders", name, lambda: _folders(name)))


def _folders(name: str) -> list[Path]:
    own, shipped = os.path.join(os.getcwd(), name), _shipped(name)
    found = [shipped] if os.path.isdir(shipped) else []
    if not os.path.isdir(own) or found and os.path.samefile(own, shipped):
        return found
    return [Path(own), *found]


@cache
def _shipped(name: str) -> Path:
    inside = PACKAGE / name  # in a wheel
    if inside.is_dir() and not (PACKAGE.parents[1] / "pyproject.toml").is_file():
        return inside.resolve()
    return (PACKAGE.parents[1] / name).resolve()  # in a source checkout


def recipes() -> dict[str, ConfigFile]:
    """All recipes by name, as they were when first asked for; of two with one name the user's own is taken."""
    return _recipes(tuple(folders("recipes")))


def forget() -> None:
    """Read the recipes again when they are next asked for: somebody may have written one since."""
    _recipes.cache_clear()
    register.cache_clear()


@cache
def _recipes(below: tuple[Path, ...]) -> dict[str, ConfigFile]:
    found: dict[str, ConfigFile] = {}
    for folder in below:
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, read(path))
    return found


@contextmanager
def without_local() -> Iterator[None]:
    """Leave out `conf/local`, this machine's own settings, for what a team looks at together."""
    before = _left_out.set(True)
    try:
        yield
    finally:
        _left_out.reset(before)


def left_out() -> bool:
    """Whether `conf/local` is left out at this moment."""
    return _left_out.get()


@contextmanager
def steady() -> Iterator[None]:
    """Look once at each folder and file, for what looks at all of them: nothing is written meanwhile."""
    before = _steady.set({})
    try:
        yield
    finally:
        _steady.reset(before)


def _once(what: str, name: str, look: Callable[[], Any]) -> Any:
    """What `look` finds; where the folders are steady, what it found the first time."""
    known = _steady.get()
    if known is None:
        return look()
    key = (what, name, os.getcwd())
    if key not in known:
        known[key] = look()
    return known[key]


def choice(group: str, name: str) -> ConfigFile | None:
    """The file behind `group=name`, as it is at this moment; of two with one name the user's own is taken."""
    if group == LOCAL and left_out():
        return None
    found: ConfigFile | None = _once("choice", f"{group}/{name}", lambda: _choice(group, name))
    return found


def _choice(group: str, name: str) -> ConfigFile | None:
    return next((read(path) for path in _places(group, name) if path.is_file()), None)


def _places(group: str, name: str) -> list[Path]:
    """Where the file behind `group=name` may lie, the user's own first."""
    below = folders("recipes") if group == "recipe" else [folder / group for folder in folders("conf")]
    return [folder / f"{name}.yaml" for folder in below]


def architecture_of(model: str) -> dict[str, Any]:
    """`model.architecture` of the file in `conf/model` that names this model; empty where there is none."""
    files = (choice("model", name) for name in options("model"))
    said = (file.values for file in files if file and file.values and file.values.get("name") == model)
    return next((dict(values["architecture"]) for values in said if values.get("architecture")), {})


def group_of(entry: str) -> str:
    """The group of a line in `defaults:`, such as `override /method`."""
    return (entry.split() or [""])[-1].partition("@")[0].lstrip("/")


def options(group: str) -> list[str]:
    """The names a group can take, such as `rtx3060` for `hardware`."""
    return list(_once("options", group, lambda: _options(group)))


def _options(group: str) -> list[str]:
    if group == "recipe":
        return sorted({path.stem for folder in folders("recipes") for path in folder.glob("*.yaml")})
    names = {path.stem for folder in folders("conf") for path in (folder / group).glob("*.yaml")}
    return sorted(names | ({"auto"} if group == "hardware" else set()))


def groups() -> list[str]:
    """The names of all groups."""
    return list(_once("groups", "", _groups))


def _groups() -> list[str]:
    found = {path.name for folder in folders("conf") for path in folder.iterdir() if path.is_dir()}
    return sorted((found | {"recipe"}) - {"local"})


def is_group(name: str) -> bool:
    """Whether a group is called so."""
    if name == "recipe":
        return True
    return name not in ("", ".", "..", LOCAL) and "/" not in name and any((f / name).is_dir() for f in folders("conf"))


def is_choice(group: str, name: str) -> bool:
    """Whether there is a file behind `group=name`, of which nothing is read."""
    if (group, name) == ("hardware", "auto"):
        return True
    return any(path.is_file() for path in _places(group, name))


@cache
def register() -> None:
    """Tell Hydra about the schema, the recipes, `hardware=auto` and the folders; once in a process."""
    store = ConfigStore.instance()
    store.store(name="schema", node=_opened(Config))
    for group in ("hardware", "recipe"):
        store.repo.pop(group, None)  # those of another folder, or of an earlier moment
    store.store(group="hardware", name="auto", node=_detected_hardware())
    for name, recipe in recipes().items():
        if recipe.values is not None:
            store.store(group="recipe", name=name, package="_global_", node=recipe.values)
    Plugins.instance().register(ConfigFolders)


class ConfigFolders(SearchPathPlugin):
    """Puts every `conf/` folder on Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in folders("conf"):
            search_path.append("sft_runner", f"file://{folder}")


def warn_of_broken() -> None:
    """Say on stderr which recipes cannot be read; nobody asked for them, so nothing stops."""
    for recipe in recipes().values():
        if recipe.error:
            print(f"warning: {recipe.error.message}; the recipe is left out", file=sys.stderr)


def _detected_hardware() -> dict[str, Any]:
    """The preset that fits this machine, as the node behind `hardware=auto`."""
    found = hardware.detect()
    preset = choice("hardware", found.preset)
    if preset is None:
        hint = "reinstall sft_runner, or choose another preset"
        raise UserError(f"hardware: the preset '{found.preset}' is missing", hint)
    if preset.error:
        raise preset.error
    return {"name": found.preset, **(preset.values or {}), **found.values, "chosen": found.reason}


def _opened(kind: type[Any]) -> Any:
    """The schema with its free dictionaries open, so that `train.extra={neftune_noise_alpha: 5}` can be given."""
    from omegaconf import OmegaConf

    node = OmegaConf.structured(kind)
    for key, (value, _) in flatten(kind()).items():
        if isinstance(value, dict):
            OmegaConf.select(node, key)._set_flag("struct", False)
    return node
