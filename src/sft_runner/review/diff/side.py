"""One side of a comparison as plain JSON: what every recipe becomes there, what its stages are made from, its cost.

First every case is composed, which needs the configuration alone; then, when the files that it reads are there too,
planned. Both run in the folder of that side.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sft_runner.config import composing, conflicts, layers, sources
from sft_runner.config.defaults import PRIMARY
from sft_runner.config.place import Place
from sft_runner.config.run import Run
from sft_runner.config.schema import Config, flatten
from sft_runner.config.sources import options, recipes, shown
from sft_runner.data import files, sets
from sft_runner.errors import SftError
from sft_runner.evaluation import engines
from sft_runner.fingerprint import UNRESOLVED, Ingredients, chain
from sft_runner.planning import wanted
from sft_runner.review.cases import Case, case
from sft_runner.review.diff import figures
from sft_runner.review.diff.seen import SeenHashes, SeenRows

FILLED = "filled in"
"""What sets a value that nobody said."""
JOBS = 16
"""Jobs of a sweep in a header that are looked at."""
_PATH = re.compile(r"[^\0\n]{1,4096}")
"""What may be a path."""
NAMED = 500
"""Up to so many files of the data are told by name."""


@dataclass(frozen=True)
class Request:
    """What is to be looked at."""

    words: tuple[str, ...] = ()
    """Words behind every command."""
    presets: tuple[str, ...] = ()
    """Each recipe is looked at on these too."""
    only: tuple[str, ...] | None = None
    """These recipes; None for all of the project."""


class Side:
    """The cases of the current folder. `conf/local` is left out."""

    def __init__(self, request: Request) -> None:
        sources.forget()
        figures.trainings.cache_clear()
        with sources.without_local(), sources.steady():
            self._composed = [_compose(name, one) for name, one in _cases(request)]

    @property
    def paths(self) -> list[str]:
        """Everything in the settings that may be a path."""
        runs = (run for _, run in self._composed if run)
        return sorted({text for run in runs for text in _texts(run.config) if _PATH.fullmatch(text)})

    def answer(self) -> dict[str, Any]:
        """Every case: `{"cases": {"code": {...}, "code hardware=t4": {...}}}`."""
        hashes, rows = SeenHashes(), SeenRows()
        with sources.without_local(), sources.steady():
            for told, run in self._composed:
                if run:
                    _plan(told, run, hashes, rows)
        hashes.save()
        sources.forget()
        figures.trainings.cache_clear()
        return {"cases": {told["case"]: told for told, _ in self._composed}}


def own_recipes() -> list[str]:
    """The recipes that lie in the current folder; those that came with the package are no part of a review."""
    mine = Path.cwd() / "recipes"
    return [name for name, file in recipes().items() if mine.is_dir() and mine.samefile(file.path.parent)]


def _cases(request: Request) -> Iterator[tuple[dict[str, str], Case]]:
    """Each case with its names: of the case, of the recipe, and of the preset where that is none of its header's."""
    fixed = {word.partition("=")[0] for word in request.words}
    known = set(options("hardware"))
    for recipe in own_recipes() if request.only is None else [name for name in request.only if name in recipes()]:
        usual = case(recipe, *request.words)
        for number, one in enumerate(_jobs(usual)):
            name = f"{recipe} job {number}" if number else recipe
            yield {"case": name, "recipe": recipe, "preset": ""}, one
        for preset in request.presets:
            if preset in known and "hardware" not in fixed and preset != usual.hardware:
                one = next(_jobs(case(recipe, *request.words, f"hardware={preset}")))
                yield {"case": f"{recipe} hardware={preset}", "recipe": recipe, "preset": preset}, one


def _jobs(one: Case) -> Iterator[Case]:
    """The jobs of a header that holds a sweep."""
    jobs = composing.jobs(one.words) if any("," in word for word in one.words) else []
    yield from [Case(one.recipe, tuple(job)) for job in jobs[:JOBS]] or [one]


def _compose(names: Mapping[str, str], one: Case) -> tuple[dict[str, Any], Run | None]:
    """A case without what costs time. `error` says why it is no run at all, `problem` why it cannot be planned."""
    file = recipes()[one.recipe]
    told: dict[str, Any] = {**names, "words": list(one.words), "error": "", "problem": "", "absent": {}}
    told |= {"file": shown(file.path), "said": repr(file.values or file.text or _text(file.path))}
    told["files"] = sorted({f"conf/{PRIMARY}.yaml", *_chosen(_defaults(file.values))})
    try:
        found = layers.layers(one.words)
        run = layers.settled(found)
    except (SftError, OSError) as error:
        return told | {"error": _short(error)}, None
    places, used = _origins(found, run)
    told |= {"settings": _settings(run, places), "files": sorted({*told["files"], *used, *_chosen(found.choices)})}
    told["environment"] = {
        key: words[-1].value
        for key, words in found.said.items()
        if isinstance(words[-1].value, str) and "oc.env" in words[-1].value
    }
    return told, run


def _plan(told: dict[str, Any], run: Run, hashes: SeenHashes, rows: SeenRows) -> None:
    """What the stages of a run are made from, and what they cost."""
    stages = wanted(run.config.stage.until, run.config.export)
    errors = [_short(error) for error in conflicts.nothing_to_learn(run.config)]
    try:
        run = engines.settled(run)
        data = _data(run.config, hashes, told)
        ingredients = _unmistakable(chain(run.config, stages, data, hashes), run.config)
        told["stages"] = {name: {**vars(made), "fingerprint": made.fingerprint()} for name, made in ingredients.items()}
        told["figures"] = figures.figures(run, stages, rows.of)
    except (SftError, OSError) as error:
        errors.append(_short(error))
    told["problem"] = "; ".join(dict.fromkeys([told["problem"], *errors])).strip("; ")


def _origins(found: layers.Layers, run: Run) -> tuple[dict[str, str], set[str]]:
    """What sets each key, and the files that say anything."""
    files = {said.place.file for words in found.said.values() for said in words}
    names = {file: shown(file) for file in files if file}
    told = {key: said[-1].place for key, said in found.said.items()} | found.inside
    places = {key: _told(place, names) for key, place in told.items()}
    reasons = {decision.key: decision for decision in run.decisions}
    asked = flatten(found.config)
    for key, (value, _) in flatten(run.config).items():
        if key in reasons and asked[key][0] != reasons[key].value:
            places[key] = f"{FILLED}: {reasons[key].reason}"
        elif asked[key][0] != value:
            places[key] = FILLED
    return places, set(names.values())


def _chosen(choices: Mapping[str, Any]) -> Iterator[str]:
    """The files of a group each."""
    for group, chosen in choices.items():
        for name in chosen if isinstance(chosen, list) else [chosen]:
            if name:
                yield f"recipes/{name}.yaml" if group == "recipe" else f"conf/{group}/{name}.yaml"


def _defaults(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """The choices in a recipe that may be broken."""
    found: dict[str, Any] = {}
    entries = (values or {}).get("defaults")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict):
            found |= {sources.group_of(str(key)): name for key, name in entry.items() if str(key).strip()}
        elif isinstance(entry, str):
            found.setdefault("recipe", []).append(entry)
    return found


def _texts(config: Config) -> Iterator[str]:
    """Every text in a configuration, but where runs are written."""
    waiting = [value for key, (value, _) in flatten(config).items() if key != "output_dir"]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _told(place: Place, names: Mapping[Path, str]) -> str:
    """A place as it prints, its file shown once for all."""
    known = names.get(place.file) if place.file else None
    return f"{known}, line {place.line}" if known else str(place)


def _settings(run: Run, places: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    """Flat key -> value and what set it; the keys of free mappings one by one."""
    found: dict[str, tuple[Any, str]] = {}
    for key, (value, marks) in flatten(run.config).items():
        if marks.get("found"):
            continue
        for name, part in _parts(key, value):
            found[name] = part, _place(name, places)
    return found


def _parts(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield key, value
        return
    for name, part in value.items():
        yield from _parts(f"{key}.{name}", part) if part != {} else [(f"{key}.{name}", part)]


def _place(key: str, places: Mapping[str, str]) -> str:
    """What set a key, or the mapping that it is in."""
    parts = key.split(".")
    names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((places[name] for name in names if name in places), "")


def _data(config: Config, hashes: SeenHashes, told: dict[str, Any]) -> dict[str, str]:
    """The hashes that stages ask for. `told` gets the hash of each file by its name, what is wrong with the data, and
    what of it is not on this machine, which counts by its address."""
    found: dict[str, str] = {}
    names: dict[str, str] = {}
    problems: list[str] = []
    for kind, data in (("data", config.data), ("sets", sets.as_data(config))):
        found[kind] = ""
        if data is None or (kind == "data" and not data.path and not data.sources):
            continue
        address = data.path or json.dumps(data.sources, sort_keys=True, default=str)
        found[kind] = f"{UNRESOLVED} {address}"
        try:
            if not files.missing(data):
                found[kind] = files.content_hash(data, hashes.of)
                listed = files.source_files(data)
                names |= {shown(path): hashes.of(path) for path in listed} if len(listed) <= NAMED else {}
        except (SftError, OSError) as error:
            if data.path and not os.path.lexists(os.path.expanduser(data.path)) and ":" not in data.path:
                told["absent"][kind] = address
            else:
                problems.append(_short(error))
    told |= {"data": names, "problem": "; ".join(problems)}
    return found


def _unmistakable(made: Mapping[str, Ingredients], config: Config) -> dict[str, Ingredients]:
    """Two models that are not on this machine are not the same: they count by their names."""
    found: dict[str, Ingredients] = {}
    for name, one in made.items():
        inputs = {stage: found[stage].fingerprint() for stage in one.inputs}
        model = f"{UNRESOLVED} {config.model.name}@{config.model.revision}" if one.model == UNRESOLVED else one.model
        found[name] = replace(one, model=model, inputs=inputs)
    return found


def _short(error: Exception) -> str:
    """An error in one line."""
    return " ".join((error.message if isinstance(error, SftError) else str(error)).split())
