"""A settled run out of words: for the command line, whose jobs Hydra composes, and for `load` from Python."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sft_runner.config.file_mistakes import in_choice_file, in_recipe
from sft_runner.config.mistakes import in_overrides
from sft_runner.config.rules import plain, settle
from sft_runner.config.run import Run
from sft_runner.config.schema import Config
from sft_runner.config.sources import (
    LOCAL,
    ConfigFile,
    choice,
    forget,
    group_of,
    is_group,
    left_out,
    options,
    read,
    register,
    shown,
    warn_of_broken,
)
from sft_runner.errors import UnknownName, UserError, raise_all


def load(*overrides: str) -> Run:
    """A settled run from command-line words: `load("recipe=quickstart", "lora.r=8")`. Raises `UserError`."""
    forget()  # a notebook may have written a recipe since
    run = of_words(overrides)
    warn_of_broken()
    return run


def of_words(overrides: Sequence[str]) -> Run:
    """A settled run from words of the command line. Raises `UserError`."""
    from sft_runner.config.layers import layers, settled  # which needs this module for what only Hydra can compose

    return settled(layers(overrides))


def jobs(overrides: Sequence[str]) -> list[list[str]]:
    """The words of each job of a sweep; empty where only Hydra can tell them, as with another sweeper."""
    if any(text.lstrip("+").startswith("hydra") for text in overrides):
        return []
    try:
        batches: list[list[list[str]]] = BasicSweeper.split_arguments(
            OverridesParser.create().parse_overrides(list(overrides)), None
        )
    except (HydraException, ValueError):
        return []  # a glob, for one
    return batches[0]


def by_hydra(overrides: Sequence[str]) -> Run:
    """The same from words that were checked, in Hydra's own time. Raises `UserError`."""
    composed, choices = _composed(overrides)
    return settle(composed, choices, tuple(overrides))


def asked(overrides: Sequence[str]) -> tuple[Config, dict[str, Any]]:
    """What Hydra composes of words that were checked, its open values still open, and the choices. Raises
    `UserError`."""
    forget()  # Hydra's store may hold the recipes of an earlier moment
    main = choice("", "sft")
    without = left_out() and main and LOCAL in _choices(main) and options(LOCAL)
    local = [f"~{LOCAL}@_global_"] if without else []
    composed, choices = _composed([*overrides, *local])
    return plain(composed), choices


def _composed(overrides: Sequence[str]) -> tuple[DictConfig, dict[str, Any]]:
    register()
    GlobalHydra.instance().clear()
    with initialize(version_base="1.3", config_path=None):
        try:
            composed = compose("sft", overrides=list(overrides), return_hydra_config=True)
        except (HydraException, OmegaConfBaseException, ValueError, yaml.YAMLError, RecursionError) as error:
            raise explain(error) from None
    choices: Any = OmegaConf.to_container(composed.hydra.runtime.choices)
    HydraConfig.instance().set_config(composed)
    return _without_hydra(composed), choices


def from_hydra(composed: DictConfig) -> Run:
    """The settled run of a job that Hydra started."""
    hydra = HydraConfig.get()
    choices: Any = OmegaConf.to_container(hydra.runtime.choices)
    return settle(_without_hydra(composed), choices, tuple(hydra.overrides.task))


def check(overrides: Sequence[str], sweep: bool = False) -> None:
    """Find all mistakes of a command line and of the files that it names, and say on stderr which recipes are broken.
    Raises `UserError`."""
    raise_mistakes(overrides, sweep)
    warn_of_broken()


def raise_mistakes(overrides: Sequence[str], sweep: bool = False) -> None:
    """Find all mistakes of a command line and of the files that it names. Raises `UserError`."""
    errors = in_overrides(overrides, sweep)
    for group, file in _files(overrides):
        errors += in_file(group, file)
    raise_all(errors)


def in_file(group: str, file: ConfigFile) -> list[UserError]:
    """All mistakes of a file; `conf/sft.yaml` is of no group."""
    return in_recipe(file) if group == "recipe" else in_choice_file(group, file)


def explain(error: Exception) -> UserError:
    """What Hydra or OmegaConf could not compose, in the user's words."""
    if isinstance(error, RecursionError):
        return UserError("files of conf/ or recipes/ extend each other in a circle", "look at their defaults")
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        file = read(Path(error.problem_mark.name))
        return file.error or UserError(f"{shown(file.path)}: {error}", "it is not valid YAML")
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return UnknownName(group or "config", name, list(error.options or ()))
    cause = error.__cause__ or error.__context__ or error
    text = str(cause).splitlines()[0] if str(cause) else str(error)
    key = getattr(cause, "full_key", None)
    return UserError(f"{key}: {text}" if key else text, "see python -m sft_runner --help")


def _without_hydra(composed: DictConfig) -> DictConfig:
    composed = composed.copy()
    OmegaConf.set_struct(composed, False)
    composed.pop("hydra", None)
    return composed


def _files(overrides: Sequence[str]) -> Iterator[tuple[str, ConfigFile]]:
    """The recipes and the files of choices behind a command line, those that they extend too, each with its group."""
    said = [text.lstrip("+~").partition("=") for text in overrides]
    groups = [(LOCAL if key.startswith(f"{LOCAL}@") else key, names) for key, _, names in said]
    named = {group: _names(names) for group, names in groups if group == LOCAL or is_group(group)}
    main = choice("", "sft")
    if main:
        yield "", main
    chosen = _choices(main)
    for recipe in reversed(_extended("recipe", named.pop("recipe", []))):
        yield "recipe", recipe
        chosen |= _choices(recipe)
    for group, names in (chosen | named).items():
        for file in _extended(group, names):
            yield group, file


def _names(value: str) -> list[str]:
    """The names in `[mlflow, wandb]`, or the one."""
    return [name for part in re.split(r"[\[\],]", value) if (name := part.strip(" '\""))]


def _choices(file: ConfigFile | None) -> dict[str, list[str]]:
    """Group -> names that a recipe, or conf/sft.yaml, chooses in its `defaults:`."""
    found: dict[str, list[str]] = {}
    for entry in _defaults(file) if file else ():
        for key, names in entry.items() if isinstance(entry, dict) else ():
            found[group_of(str(key))] = [str(name) for name in (names if isinstance(names, list) else [names])]
    return found


def _extended(group: str, names: Sequence[str]) -> list[ConfigFile]:
    """The files of these choices, and of those that they extend through `defaults: [other]`. Raises `UserError` for one
    that extends itself."""
    found: dict[str, ConfigFile] = {}
    queue: list[tuple[str, tuple[str, ...]]] = [(name, ()) for name in names]
    while queue:
        name, above = queue.pop(0)
        if name in above:
            last = found[above[-1]]
            chain = " -> ".join((*above[above.index(name) :], name))
            where = f"{shown(last.path)}, line {last.line(('defaults',))}"
            raise UserError(f"{where}: {group} '{name}' extends itself: {chain}", "take one of them out")
        if name not in found and (file := choice(group, name)):
            found[name] = file
            queue += [(entry, (*above, name)) for entry in _parents(file)]
    return list(found.values())


def _parents(file: ConfigFile) -> list[str]:
    """The files that this one extends."""
    return [entry for entry in _defaults(file) if isinstance(entry, str) and entry != "_self_"]


def _defaults(file: ConfigFile) -> list[Any]:
    entries = (file.values or {}).get("defaults")
    return entries if isinstance(entries, list) else []
