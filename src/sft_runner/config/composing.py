"""Hydra in, a settled run out: for the command line's jobs and for `load` from Python."""

from collections.abc import Sequence
from typing import Any

from hydra import compose, initialize
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sft_runner.config.mistakes import in_overrides, in_recipe
from sft_runner.config.rules import settle
from sft_runner.config.run import Run
from sft_runner.config.sources import recipes, register, warn_of_broken
from sft_runner.errors import UnknownName, UserError, raise_all


def load(*overrides: str) -> Run:
    """A settled run from command-line words: `load("recipe=quickstart", "lora.r=8")`. Raises `UserError`."""
    recipes.cache_clear()  # a notebook may have written one since
    register.cache_clear()
    check(overrides)
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


def check(overrides: Sequence[str]) -> None:
    """Find all mistakes of a command line and of the recipes that it names. Raises `UserError`."""
    errors = in_overrides(overrides)
    known = recipes()
    asked = [name for text in overrides if text.startswith("recipe=") for name in text[7:].split(",")]
    for name in _with_parents(asked):
        if name in known:
            errors += in_recipe(known[name])
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


def _with_parents(names: list[str]) -> list[str]:
    """Recipes and those that they extend through `defaults: [other]`."""
    known, found, queue = recipes(), [], list(names)
    while queue:
        name = queue.pop(0)
        if name in found or name not in known:
            continue
        found.append(name)
        entries = (known[name].values or {}).get("defaults") or []
        queue += [entry for entry in entries if isinstance(entry, str) and entry != "_self_"]
    return found
