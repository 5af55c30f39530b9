"""The commands that a recipe is looked at with: its values depend on the machine that it runs on."""

import re
from dataclasses import dataclass

from sft_runner.config.sources import recipes

HARDWARE = "cpu"
"""Preset where a recipe's header names none: `auto` would tell of the machine that looks, not of the recipe."""
_PLAIN = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)
"""Names that Hydra's grammar takes without quotes."""


@dataclass(frozen=True)
class Case:
    """A recipe with the words of one command."""

    recipe: str
    """Its name."""
    words: tuple[str, ...]
    """What would be typed: `("recipe=code", "hardware=rtx3060")`."""

    @property
    def hardware(self) -> str:
        """The preset."""
        return next(word.partition("=")[2] for word in self.words if word.startswith("hardware="))


def case(recipe: str, *words: str) -> Case:
    """The command in a recipe's header, with `words` behind it; raises `KeyError` for a recipe that is not there."""
    own = [word for word in recipes()[recipe].words if word.partition("=")[0] != "recipe"]
    given = {word.partition("=")[0].lstrip("+~"): word for word in (f"hardware={HARDWARE}", *own, *words)}
    return Case(recipe, (said("recipe", recipe), *given.values()))


def said(group: str, name: str) -> str:
    """A choice as a word of the command line, such as `recipe=code`."""
    return f"{group}={_quoted(name)}"


def _quoted(name: str) -> str:
    """A name as a word of Hydra's grammar."""
    if _PLAIN.fullmatch(name):
        return name
    return "'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"
