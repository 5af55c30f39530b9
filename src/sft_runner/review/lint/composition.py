"""A file as the pipeline would compose, settle and plan it, and where in the file that lies what it tells of."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path

from sft_runner.config import composing, conflicts
from sft_runner.config.layers import Layers, layers, settled
from sft_runner.config.run import Run
from sft_runner.config.schema import Config, flatten
from sft_runner.config.sources import groups
from sft_runner.config.words import key_of
from sft_runner.cost import settling
from sft_runner.data.sources import sources_of
from sft_runner.errors import SftError, UserErrors
from sft_runner.model.architecture import architecture
from sft_runner.planning import wanted


@dataclass(frozen=True)
class Composition:
    """What came of it."""

    words: tuple[str, ...]
    """What was asked for."""
    found: Layers | None
    """The layers; None where they could not be composed."""
    run: Run | None
    """The settled run; None where it is refused."""
    errors: tuple[SftError, ...]
    """Why it is refused."""

    def keys(self, message: str) -> Iterator[str]:
        """The settings that a message names, as `said` knows them, and the groups that it names as `method=`."""
        for word, equals in re.findall(r"(?<![\w.])([A-Za-z_]\w*(?:\.[\w*-]+)*)(=?)", message):
            parts = word.split(".")
            above = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
            if known := next((key for key in above if key in _settings()), None):
                yield known
            elif equals and word in groups():
                yield word

    def said(self, key: str, path: Path) -> bool:
        """Whether a file says this key."""
        words = self.found.said.get(key, ()) if self.found else ()
        return any(said.place.file == path for said in words)

    @cached_property
    def refusals(self) -> list[SftError]:
        """Why the run cannot be planned."""
        return list(unplanned(self.run)) if self.run else []

    def typed(self, key: str) -> bool:
        """Whether the command says this key, or chooses in this group."""
        return any(key_of(word) == key for word in self.words)

    def named(self, message: str) -> list[str]:
        """The words of the command, but for the recipe, whose key the message names: a mistyped key is one too."""
        keys = [key_of(word) for word in self.words]
        return [key for key in keys if key != "recipe" and re.search(rf"(?<![\w.]){re.escape(key)}(?![\w.])", message)]

    def origin(self, key: str) -> tuple[Path, int] | None:
        """The file and line whose word for a key holds."""
        words = self.found.said.get(key, ()) if self.found else ()
        place = words[-1].place if words else None
        if place is None or place.file is None or place.layer == "schema":
            return None
        return place.file, place.line


def compose(words: Sequence[str]) -> Composition:
    """Compose and settle; what is refused is in `errors`."""
    found = None
    try:
        found = layers(words)
        return Composition(tuple(words), found, settled(found), ())
    except UserErrors as errors:
        return Composition(tuple(words), found, None, errors.errors)
    except SftError as error:
        return Composition(tuple(words), found, None, (error,))


def jobs(words: Sequence[str]) -> list[Sequence[str]]:
    """Jobs of a sweep in which each of its values comes once; what only Hydra can tell apart is one."""
    seen: set[str] = set()
    found: list[Sequence[str]] = []
    for job in composing.jobs(list(words)):
        if not seen.issuperset(job):
            found.append(job)
            seen.update(job)
    return found or [words]


@lru_cache(maxsize=1)
def baseline(folder: str) -> Composition:
    """The run of conf/sft.yaml alone, in a working directory; `subjects` has it made anew."""
    return compose(["hardware=cpu"])


def unplanned(run: Run) -> Iterator[SftError]:
    """Why the run cannot be planned, as far as that can be told without its data and its model."""
    config = run.config
    yield from conflicts.nothing_to_learn(config)
    if {"baseline", "evaluate"} & set(wanted(config.stage.until, config.export)):
        yield from conflicts.nothing_to_score(config)
    try:
        if config.data.path or config.data.sources:
            sources_of(config.data)
        if arch := architecture(config.model):
            settling.settled(run, arch)
    except UserErrors as errors:
        yield from errors.errors
    except SftError as error:
        yield error


@cache
def _settings() -> frozenset[str]:
    """Every key."""
    return frozenset(flatten(Config()))
