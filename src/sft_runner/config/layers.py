"""A composed configuration of which every value knows where it is said: `conf/sft.yaml` up to the command line.

The same as Hydra composes, in a fraction of its time; what only Hydra can compose goes through Hydra, and then it is
not known who said a value, only that it is not the default (`docs/decisions/0017-origins.md`).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from sft_runner.config import composing, rules, values
from sft_runner.config.defaults import PRIMARY, NotPlain, parts
from sft_runner.config.laying import Laying, chosen
from sft_runner.config.place import COMMAND_LINE, Place, Said, of_schema
from sft_runner.config.run import Run
from sft_runner.config.schema import Config, flatten
from sft_runner.config.sources import choice, folders
from sft_runner.config.words import key_of

__all__ = ["Layers", "Place", "Said", "layers", "settled"]

COMPOSED = "composed by Hydra"
"""Layer of a value whose place is not known."""


@dataclass(frozen=True)
class Layers:
    """A composed configuration with its origins."""

    choices: dict[str, Any]
    """The chosen file of each group, in Hydra's words."""
    said: dict[str, tuple[Said, ...]]
    """Key -> every word for it, the lowest layer first, the schema's default always first; the last one holds. Of a
    setting of free names all hold together."""
    config: Config
    """Composed, its open values still open."""
    words: tuple[str, ...]
    """The words of the command line."""
    inside: dict[str, Place]
    """Where each name below a setting of free names is said: `evaluate.gates.loss.min_gain`."""

    files: tuple[str, ...] = ()
    """The files it is composed of, in Hydra's words (`hardware/rtx3060`), the lowest first; empty where only Hydra
    knows them."""
    chosen: dict[str, Place] = field(default_factory=dict)
    """Group -> where its choice is made."""

    def place(self, key: str) -> Place | None:
        """Where the value that holds is said; None for a key that is not there."""
        return self.said[key][-1].place if key in self.said else self.inside.get(key)


def layers(words: Sequence[str]) -> Layers:
    """The configuration of these words: `recipe=code hardware=rtx3060 lora.r=4`. Raises `UserError`."""
    words = tuple(words)
    composing.raise_mistakes(words)
    found = _laid(words)
    own = _for_hydra()
    if found is None or any(map(_of_hydra, words)) or own not in _taken:
        found = _by_hydra(words, found)
        _taken.add(own)
    return found


def settled(found: Layers) -> Run:
    """The run of a composed configuration: what `load` returns. Raises `UserError`."""
    return rules.complete(copy.deepcopy(found.config), found.choices, found.words)


def _laid(words: tuple[str, ...]) -> Layers | None:
    """Files and words laid over each other; None where only Hydra knows what becomes of them."""
    try:
        laid = Laying([word for word in words if not _of_hydra(word)])
        config = values.config_of(values.resolved(laid.values))
    except (*_UNKNOWN, values.NotTyped):
        return None
    composed = laid.composed
    if not config.hardware.name:
        config.hardware.name = str(composed.choices.get("hardware") or "")
    said = {key: tuple(known) for key, known in laid.said.items()}
    files = tuple(part.name for part in composed.parts)
    return Layers(composed.choices, said, config, words, laid.inside, files, chosen(composed))


def _by_hydra(words: tuple[str, ...], found: Layers | None) -> Layers:
    """What only Hydra can compose; where a value that is not the default was said is not known, unless it is the same
    as was `found` without the words for Hydra itself. Raises `UserError`."""
    config, choices = composing.asked(words)
    if not config.hardware.name:
        config.hardware.name = str(choices.get("hardware") or "")
    if found is not None and found.config == config:
        return found
    places = of_schema()
    said: dict[str, tuple[Said, ...]] = {}
    unknown = Place(None, 0, COMPOSED)
    usual = values.defaults()
    for key, (value, _) in flatten(config).items():
        word = next((word for word in words if word.lstrip("+").partition("=")[0] == key), None)
        own = (Said(value, Place(None, 0, COMMAND_LINE) if word else unknown),)
        said[key] = (Said(usual[key], places[key]), *(own if word or value != usual[key] else ()))
    try:
        composed = parts([word for word in words if not _of_hydra(word)])
    except _UNKNOWN:
        return Layers(choices, said, config, words, {})
    files = tuple(part.name for part in composed.parts)
    return Layers(choices, said, config, words, {}, files, chosen(composed))


_UNKNOWN = (NotPlain, HydraException, OmegaConfBaseException, ValueError, AssertionError, RecursionError)
"""What is raised where only Hydra knows what becomes of words, or what is wrong with them."""
_taken = {""}
"""What users' own `conf/sft.yaml` say where they say something of Hydra, and Hydra took it."""


def _for_hydra() -> str:
    """The text of the user's own `conf/sft.yaml` where it says something of Hydra; empty where it does not."""
    main = choice("", PRIMARY)
    if main is None or main.path.parent == folders("conf")[-1] or "hydra" not in main.text:
        return ""
    return main.text


def _of_hydra(word: str) -> bool:
    """Whether a word sets something of Hydra's own that is none of the configuration's."""
    key = key_of(word)
    return key.startswith(("hydra.", "hydra/")) and key != "hydra.searchpath"
