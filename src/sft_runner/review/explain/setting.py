"""All there is to say about one setting in one run."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sft_runner import fingerprint
from sft_runner.config import values
from sft_runner.config.glossary import described
from sft_runner.config.layers import Layers, Place, Said, settled
from sft_runner.config.run import Run
from sft_runner.config.schema import Config, flatten
from sft_runner.config.schema_evaluate import without_use
from sft_runner.config.sources import ConfigFile, choice, groups, options
from sft_runner.errors import UserError
from sft_runner.stages import STAGES


@dataclass(frozen=True)
class Setting:
    """One setting, or a name below one of free names, such as `evaluate.gates.loss`."""

    key: str
    """Its key."""
    value: Any
    """What runs."""
    said: tuple[Said, ...]
    """Every word for it, the one that holds first, the default last."""
    reason: str
    """Why it was filled in; empty where somebody said it."""
    meaning: str
    """Its line of help."""
    possible: str
    """Its choices or its bounds; empty where any value of its type goes."""
    counts: str
    """In which stages' fingerprints it counts, or why in none."""
    others: tuple[Said, ...]
    """Other values in files that take no part in this run."""
    warnings: tuple[str, ...]
    """The run's doubts that name it."""
    pointed: tuple[tuple[str, Place], ...]
    """The other keys whose values it takes, `${train.batch_size}`, and where those are said."""


def settings(keys: Iterable[str], found: Layers) -> Iterator[Setting]:
    """What there is to say about each of `keys`, keys of the schema or names below a setting of free names."""
    run = run_of(found)
    flat = flatten(run.config)
    texts = glossary()
    files = list(_unused(found))
    for key in keys:
        owner = values.inside(key) or key
        value, marks = flat[owner]
        said = tuple(reversed(found.said[owner]))
        if owner != key:
            value, said = _below(key, owner, value, said, found)
        choices, text = texts.get(owner, ("", "Filled in by the program."))
        yield Setting(
            key=key,
            value=value,
            said=said,
            reason=reason(owner, run),
            meaning=text,
            possible=choices or ", ".join(_bounds(marks)),
            counts=_counts(owner, run.config),
            others=tuple(one for one in _others(key, files) if one.value != value),
            warnings=tuple(text for text in run.warnings if key in text or run.composed is run.config),
            pointed=_pointed(said, found),
        )


@cache
def glossary() -> dict[str, tuple[str, str]]:
    """Key -> choices and meaning."""
    return {name: (choices, text) for name, _, choices, text in described(Config)}


def run_of(found: Layers) -> Run:
    """The settled run; of words that cannot run, what was composed, with the reason as a warning."""
    try:
        return settled(found)
    except UserError as error:
        text = f"this cannot run: {error.message}"
        return Run(found.config, composed=found.config, warnings=(text,))


def reason(key: str, run: Run) -> str:
    """Why a value is not the one that was said; empty where it is."""
    assert run.composed is not None
    if at_key(run.composed, key) == at_key(run.config, key):
        return ""
    for decision in run.decisions:
        if decision.key == key:
            return decision.reason
    if key == "name":
        return "the recipe's name" if "recipe" in run.choices else "no recipe was chosen"
    return _OPEN.get(key, "it was left open")


_OPEN = {
    "evaluate.engine": "vllm where it is installed and can do what is asked, else transformers",
    "evaluate.headline": "the first of evaluate.metrics, else loss",
    "model.architecture": "the file of conf/model that names this model",
    "train.early_stopping.max_new_tokens": "evaluate.max_new_tokens",
    "train.early_stopping.pattern": "evaluate.pattern",
}
"""Settings that are filled in from others, and from which."""


def at_key(config: Config, key: str) -> Any:
    """The value of a setting."""
    part: Any = config
    for name in key.split("."):
        part = getattr(part, name)
    return part


def at(value: Any, path: tuple[str, ...]) -> Any:
    """What stands below a mapping at a path; None where there is nothing."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _below(key: str, owner: str, value: Any, said: tuple[Said, ...], found: Layers) -> tuple[Any, tuple[Said, ...]]:
    """The value of a name below `owner`, a setting of free names, and every word for it."""
    paths = [(one, _path(one, key, owner)) for one in (value, *(one.value for one in said))]
    path = next((path for one, path in paths if at(one, path) is not None), paths[0][1])
    words: list[Said] = []
    for one in said:
        if one.taken and f"{key}.".startswith(f"{one.taken}."):
            words.append(Said(None, one.place, key))
        elif not one.taken and at(one.value, path) is not None:
            words.append(Said(at(one.value, path), one.place))
    if words and not words[0].taken:
        words[0] = Said(words[0].value, found.inside.get(key, words[0].place))
    return at(value, path), tuple(words)


def _path(value: Any, key: str, owner: str) -> tuple[str, ...]:
    """The names of `key` below `owner`; a name may hold a dot: `a.b` in `{"a.b": 1}`."""
    rest = key[len(owner) + 1 :]
    path: list[str] = []
    while rest:
        known = value if isinstance(value, dict) else {}
        name = next((name for name in known if rest == name or rest.startswith(f"{name}.")), rest.partition(".")[0])
        path.append(name)
        value, rest = known.get(name), rest[len(name) + 1 :]
    return tuple(path)


def _pointed(said: tuple[Said, ...], found: Layers) -> tuple[tuple[str, Place], ...]:
    """The keys whose values the word that holds takes."""
    text = said[0].value if said else None
    keys = re.findall(r"\$\{([\w.]+)\}", text) if isinstance(text, str) else []
    return tuple((key, where) for key in keys if (where := found.place(key)))


def _bounds(marks: dict[str, Any]) -> Iterator[str]:
    for mark, words in (("at_least", "at least"), ("above", "above"), ("below", "below")):
        if mark in marks:
            yield f"{words} {marks[mark]:g}"


def _counts(key: str, config: Config) -> str:
    """In which fingerprints a setting counts."""
    value, marks = flatten(config)[key]
    if key.startswith("model."):
        return "not by itself: the model counts by its files or its commit, in every stage that reads it"
    if not marks.get("counts", True):
        return "in no fingerprint: no stage's output depends on it"
    readers = [stage for stage in STAGES.values() if any(f"{key}.".startswith(f"{part}.") for part in stage.reads)]
    if key in without_use(config.evaluate):
        return "in no fingerprint of this run: nothing uses it"
    counting = [stage.name for stage in readers if key in fingerprint.read_by(stage, config)]
    if counting:
        return f"in the fingerprint of {', '.join(counting)}, and so of what comes behind"
    if "neutral" in marks and value == marks["neutral"]:
        names = ", ".join(stage.name for stage in readers)
        return f"left out of fingerprints while it is {marks['neutral']!r}; any other value counts for {names}"
    return "in no fingerprint: no stage reads it"


def _unused(found: Layers) -> Iterator[tuple[str, tuple[str, ...], ConfigFile]]:
    """Recipes and files of choices that are not part of this run: layer, package and file."""
    used = {one.place.file for said in found.said.values() for one in said}
    for group in groups():
        for name in options(group):
            file = choice(group, name)
            if file is not None and file.values is not None and file.path not in used:
                package = "" if group == "recipe" else file.package(group)
                yield f"{group}={name}", tuple(package.split(".")) if package else (), file


def _others(key: str, files: Sequence[tuple[str, tuple[str, ...], ConfigFile]]) -> Iterator[Said]:
    """What files say of a key."""
    path = tuple(key.split("."))
    for layer, above, file in files:
        below = path[len(above) :]
        if path[: len(above)] == above and (value := at(file.values, below)) is not None:
            yield Said(_typed(key, value), Place(file.path, file.line(below), layer))


def _typed(key: str, value: Any) -> Any:
    """A value of a file in its type, where it has one."""
    return values.typed(key, value) if values.takes(key, value) else value
