"""Where configuration comes from: the user's own `./conf` and `./recipes` first, then the shipped ones.

`conf/` is put on Hydra's search path by a plugin. Recipes are stored one by one, so that they need no package header,
and so that a broken one stops only the run that asks for it.
"""

import os
import sys
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
    "options",
    "read",
    "recipes",
    "register",
    "shown",
    "warn_of_broken",
]

PACKAGE = Path(__file__).parents[1]


def folders(name: str) -> list[Path]:
    """The folders called `name` (`conf` or `recipes`), the user's own first."""
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


def choice(group: str, name: str) -> ConfigFile | None:
    """The file behind `group=name`, as it is at this moment; of two with one name the user's own is taken."""
    places = [folder / f"{name}.yaml" for folder in folders("recipes")]
    if group != "recipe":
        places = [folder / group / f"{name}.yaml" for folder in folders("conf")]
    return next((read(path) for path in places if path.is_file()), None)


def architecture_of(model: str) -> dict[str, Any]:
    """`model.architecture` of the file in `conf/model` that names this model; empty where there is none."""
    files = (choice("model", name) for name in options("model"))
    said = (file.values for file in files if file and file.values and file.values.get("name") == model)
    return next((dict(values["architecture"]) for values in said if values.get("architecture")), {})


def group_of(entry: str) -> str:
    """The group of a line in `defaults:`, such as `override /method`."""
    return entry.split()[-1].partition("@")[0].lstrip("/")


def options(group: str) -> list[str]:
    """The names a group can take, such as `rtx3060` for `hardware`."""
    if group == "recipe":
        return sorted({path.stem for folder in folders("recipes") for path in folder.glob("*.yaml")})
    names = {path.stem for folder in folders("conf") for path in (folder / group).glob("*.yaml")}
    return sorted(names | ({"auto"} if group == "hardware" else set()))


def groups() -> list[str]:
    """The names of all groups."""
    found = {path.name for folder in folders("conf") for path in folder.iterdir() if path.is_dir()}
    return sorted((found | {"recipe"}) - {"local"})


@cache
def register() -> None:
    """Tell Hydra about the schema, the recipes, `hardware=auto` and the folders; once in a process."""
    store = ConfigStore.instance()
    store.store(name="schema", node=_opened(Config))
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
