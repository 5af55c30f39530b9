"""What a recipe makes as it stands: what goes into each stage up to `evaluate`, and how that differs from a run's."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sft_runner.config.layers import layers, settled
from sft_runner.config.run import Run
from sft_runner.config.sources import recipes, without_local
from sft_runner.data import files, sets
from sft_runner.errors import UnknownName
from sft_runner.evaluation import engines
from sft_runner.fingerprint import UNRESOLVED, Hashes, Ingredients, chain
from sft_runner.planning import wanted
from sft_runner.review.cases import said

STAGE = "evaluate"
"""The stage whose fingerprint stands for all that was measured: its inputs are all the others."""


@dataclass(frozen=True)
class Made:
    """What a recipe makes with some words."""

    stages: Mapping[str, Ingredients]
    """Stage -> what goes into it, in their order, up to `evaluate`."""
    run: Run
    """The settled run."""

    @property
    def fingerprint(self) -> str:
        """Of the stage `evaluate`."""
        return self.stages[STAGE].fingerprint()


def made(recipe: str, words: Sequence[str], hashes: Hashes) -> Made | None:
    """What `recipe=RECIPE WORDS` makes; None where its data or its model is not on this machine.

    Reads no rows and fetches nothing. This machine's own settings, conf/local, are left out: nobody else has them.
    Raises `SftError` where the words cannot be composed, `UserError` where a file is not there.
    """
    if recipe not in recipes():
        raise UnknownName("recipe", recipe, recipes())
    with without_local():
        run = engines.settled(settled(layers([*_of(recipe), *words])))
    data = {}
    for name, asked in (("data", run.config.data), ("sets", sets.as_data(run.config))):
        if asked and files.missing(asked):
            return None
        data[name] = files.content_hash(asked, hashes.of) if asked else ""
    found = chain(run.config, wanted(STAGE), data, hashes)
    if any(UNRESOLVED in (one.model, one.data) for one in found.values()):
        return None
    return Made(found, run)


def differences(manifests: Mapping[str, Mapping[str, Any]], now: Made) -> Iterator[str]:
    """What went into a run's stages, by their manifests, and is another with the recipe: the first causes, in words."""
    for name, ingredients in now.stages.items():
        if not (was := manifests.get(name)):
            continue
        before, after = was.get("config") or {}, ingredients.config
        for key in sorted({*before, *after}):
            if before.get(key) != after.get(key):
                yield f"{key} {_value(before, key)} -> {_value(after, key)}"
        if was.get("version") != ingredients.version:
            yield f"stage {name}: version {was.get('version')} -> {ingredients.version}"
        if was.get("model") != ingredients.model:
            yield "model"
        if was.get("data") != ingredients.data:
            yield "evaluate.sets" if name == STAGE else "data"


def _of(recipe: str) -> list[str]:
    """The words that choose a recipe. One whose name needs quotes cannot name a run, so that is said too."""
    word = said("recipe", recipe)
    return [word, "name=record"] if "'" in word else [word]


def _value(settings: Mapping[str, Any], key: str) -> str:
    return str(settings[key]) if key in settings else "default"
