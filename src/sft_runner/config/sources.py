"""Where configuration comes from: the user's own `./conf` and `./recipes` first, then the shipped ones.

`conf/` is put on Hydra's search path by a plugin. Recipes are stored one by one, so that they need no package header,
and so that a broken one stops only the run that asks for it.
"""

import re
import shlex
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from sft_runner import hardware
from sft_runner.config.schema import Config, flatten
from sft_runner.errors import UserError

PACKAGE = Path(__file__).parents[1]
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class ConfigFile:
    """A recipe, or the file of a choice in `conf/`, as it lies on disk."""

    path: Path
    """Its file."""
    values: dict[str, Any] | None
    """What it says; None where it is broken."""
    error: UserError | None
    """What is wrong with it."""
    text: str = ""
    """Its text when `values` was read; empty where it is broken."""

    @property
    def header(self) -> dict[str, str]:
        """The comment at its top: `# goal: ...` and so on."""
        lines = (line.partition(":") for line in self.comment.splitlines())
        return {key.strip(): value.strip() for key, _, value in lines if value}

    @property
    def comment(self) -> str:
        """The lines that begin with `#`, without it."""
        lines = self.path.read_text(errors="replace").splitlines()
        return "\n".join(line[1:].strip() for line in lines if line[:1] == "#")

    @property
    def words(self) -> list[str]:
        """The words of the command in the header, such as `recipe=code` and `hardware=rtx3060`; empty without one."""
        try:
            said = shlex.split(self.header.get("command", ""), comments=True)
        except ValueError:  # an open quote
            return []
        return [word for word in said[1:] if "=" in word or word[:1] in ("~", "+")]

    def package(self, group: str) -> str:
        """The part of the configuration that its keys belong to; empty for the whole (`# @package _global_`)."""
        named = group
        for line in filter(str.strip, self.path.read_text(errors="replace").splitlines()):
            if not (header := re.match(r"\s*#\s*@(\w+)\s+(\S+)", line)):
                break  # Hydra reads no further either
            named = header[2] if header[1] == "package" else named
        return {"_group_": group, "_global_": ""}.get(named, named)


def folders(name: str) -> list[Path]:
    """The folders called `name` (`conf` or `recipes`), the user's own first."""
    shipped = PACKAGE / name  # in a wheel
    if not shipped.is_dir() or (PACKAGE.parents[1] / "pyproject.toml").is_file():
        shipped = PACKAGE.parents[1] / name  # in a source checkout
    found = dict.fromkeys(path.resolve() for path in (Path.cwd() / name, shipped))
    return [folder for folder in found if folder.is_dir()]


@cache
def recipes() -> dict[str, ConfigFile]:
    """All recipes by name; of two with one name the user's own is taken."""
    found: dict[str, ConfigFile] = {}
    for folder in folders("recipes"):
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, read(path))
    return found


def choice(group: str, name: str) -> ConfigFile | None:
    """The file behind `group=name`; of two with one name the user's own is taken."""
    if group == "recipe":
        return recipes().get(name)
    places = (folder / group / f"{name}.yaml" for folder in folders("conf"))
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
        return sorted(recipes())
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


def read(path: Path) -> ConfigFile:
    """The file as it is; what is wrong with its YAML is in `error`."""
    try:
        text = path.read_bytes().decode("utf-8")  # line ends as they are
        values = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        hint = "check the indentation, the colons and the quotes there"
        return ConfigFile(path, None, UserError(f"{shown(path)}, line {line}: not valid YAML: {error.problem}", hint))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return ConfigFile(path, None, UserError(f"{shown(path)}: not valid YAML: {error}", "save it as UTF-8 text"))
    recipe = path.parent.name == "recipes"
    if values is None and not recipe:
        values = {}
    if not isinstance(values, dict):
        what, example = ("a recipe", "recipes/quickstart.yaml") if recipe else ("this file", "conf/hardware/cpu.yaml")
        return ConfigFile(
            path, None, UserError(f"{shown(path)}: {what} is a mapping of keys to values", f"see {example}")
        )
    return ConfigFile(path, values, None, text)


def shown(path: Path) -> str:
    """A path as the user would type it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


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
