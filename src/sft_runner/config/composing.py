"""Hydra in, a settled run out: for the command line's jobs and for `load` from Python."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

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
from sft_runner.config.rules import settle
from sft_runner.config.run import Run
from sft_runner.config.sources import ConfigFile, choice, group_of, groups, recipes, register, warn_of_broken
from sft_runner.errors import UnknownName, UserError, raise_all


def load(*overrides: str) -> Run:
    """A settled run from command-line words: `load("recipe=quickstart", "lora.r=8")`. Raises `UserError`."""
    recipes.cache_clear()  # a notebook may have written one since
    register.cache_clear()
    check(overrides)
    return of_words(overrides)


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


def of_words(overrides: Sequence[str]) -> Run:
    """A settled run from words that were checked. Raises `UserError`."""
    register()
    GlobalHydra.instance().clear()
    with initialize(version_base="1.3", config_path=None):
        try:
            composed = compose("sft", overrides=list(overrides), return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise explain(error) from None
    choices = OmegaConf.to_container(composed.hydra.runtime.choices)
    HydraConfig.instance().set_config(composed)
    return _settled(composed, choices, overrides)


def from_hydra(composed: DictConfig) -> Run:
    """The settled run of a job that Hydra started."""
    hydra = HydraConfig.get()
    return _settled(composed, OmegaConf.to_container(hydra.runtime.choices), hydra.overrides.task)


def check(overrides: Sequence[str], sweep: bool = False) -> None:
    """Find all mistakes of a command line and of the files that it names. Raises `UserError`."""
    errors = in_overrides(overrides, sweep)
    for group, file in _files(overrides):
        errors += in_recipe(file) if group == "recipe" else in_choice_file(group, file)
    raise_all(errors)
    warn_of_broken()


def explain(error: Exception) -> UserError:
    """What Hydra or OmegaConf could not compose, in the user's words."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return UnknownName(group or "config", name, list(error.options or ()))
    cause = error.__cause__ or error.__context__ or error
    text = str(cause).splitlines()[0] if str(cause) else str(error)
    key = getattr(cause, "full_key", None)
    return UserError(f"{key}: {text}" if key else text, "see python -m sft_runner --help")


def _settled(composed: DictConfig, choices: Any, overrides: Sequence[str]) -> Run:
    composed = composed.copy()
    OmegaConf.set_struct(composed, False)
    composed.pop("hydra", None)
    return settle(composed, choices, tuple(overrides))


def _files(overrides: Sequence[str]) -> Iterator[tuple[str, ConfigFile]]:
    """The recipes and the files of choices behind a command line, those that they extend too, each with its group."""
    said = [text.lstrip("+~").partition("=") for text in overrides]
    named = {group: re.findall(r"[^\[\],\s]+", names) for group, _, names in said if group in groups()}
    chosen = _choices(choice("", "sft"))
    for recipe in reversed(_extended("recipe", named.pop("recipe", []))):
        yield "recipe", recipe
        chosen |= _choices(recipe)
    for group, names in (chosen | named).items():
        for file in _extended(group, names):
            yield "" if group == "local" else group, file  # this machine's own settings are of any part


def _choices(file: ConfigFile | None) -> dict[str, list[str]]:
    """Group -> names that a recipe, or conf/sft.yaml, chooses in its `defaults:`."""
    found: dict[str, list[str]] = {}
    for entry in _defaults(file) if file else ():
        for key, names in entry.items() if isinstance(entry, dict) else ():
            found[group_of(str(key))] = [str(name) for name in (names if isinstance(names, list) else [names])]
    return found


def _extended(group: str, names: Sequence[str]) -> list[ConfigFile]:
    """The files of these choices, and of those that they extend through `defaults: [other]`."""
    found: dict[str, ConfigFile] = {}
    queue = list(names)
    while queue:
        name = queue.pop(0)
        if name not in found and (file := choice(group, name)):
            found[name] = file
            queue += [entry for entry in _defaults(file) if isinstance(entry, str) and entry != "_self_"]
    return list(found.values())


def _defaults(file: ConfigFile) -> list[Any]:
    entries = (file.values or {}).get("defaults")
    return entries if isinstance(entries, list) else []
