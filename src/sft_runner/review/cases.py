"""The commands that a recipe is looked at with: its values depend on the machine that it runs on."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sft_runner.config.sources import recipes
from sft_runner.config.words import key_of
from sft_runner.masking import masked

HARDWARE = "cpu"
"""Preset where a recipe's header names none: `auto` would tell of the machine that looks, not of the recipe."""
ELSEWHERE = frozenset(
    {"recipe", "name", "output_dir", "dry_run", "force", "locked", "stage", "tracking", "hydra"},
)
"""Keys and groups that say nothing of what a recipe makes."""
EARLIER = frozenset({"name", "output_dir"})
"""Those that an earlier run, whose adapter is trained further, is found by."""
SEARCHPATH = "hydra.searchpath"
"""Where else files of groups are, and so not Hydra's own matter."""
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
    own = [word for word in recipes()[recipe].words if key_of(word) != "recipe"]
    given = {key_of(word): word for word in (f"hardware={HARDWARE}", *own, *words)}
    return Case(recipe, (said("recipe", recipe), *given.values()))


def telling(words: Iterable[str], dropped: frozenset[str] = ELSEWHERE) -> list[str]:
    """The words of a command line that say something of what its recipe makes."""
    return [word for word in words if key_of(word) == SEARCHPATH or re.split(r"[./@]", key_of(word))[0] not in dropped]


def relative(word: str) -> str:
    """A word in which paths inside the project are relative to it."""
    return _shorter(word, Path.cwd(), "")


def private(word: str) -> str:
    """A word without secrets and without the places of this machine."""
    return _shorter(relative(masked(word)), Path.home(), "~/")


def said(group: str, name: str) -> str:
    """A choice as a word of the command line, such as `recipe=code`."""
    return f"{group}={_quoted(name)}"


def _shorter(word: str, folder: Path, short: str) -> str:
    """A word in which paths below a folder begin with `short`."""
    if folder == Path(folder.anchor):
        return word
    begin = re.escape(f"{folder}{os.sep}")
    return re.sub(rf"(?<![^\s=:,'\"\[{{(]){begin}(?=[^\s,'\"\]}})])", lambda found: short, word)


def _quoted(name: str) -> str:
    """A name as a word of Hydra's grammar."""
    if _PLAIN.fullmatch(name):
        return name
    return "'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"
