"""One side of a comparison as plain JSON: what every recipe becomes there, what its stages are made from, its cost.

Runs in the folder of that side, with the code of that side: in this process, or as a program of its own, which reads
the request from stdin and answers on stdout. So two versions of the program can be compared; `VERSION` tells when they
no longer speak alike.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sft_runner.config import composing, layers, sources
from sft_runner.config.choices import choices
from sft_runner.config.place import Place
from sft_runner.config.run import Run
from sft_runner.config.schema import Config, Data, flatten
from sft_runner.config.sources import options, recipes, shown
from sft_runner.data import files, sets
from sft_runner.errors import SftError
from sft_runner.evaluation import engines
from sft_runner.fingerprint import UNRESOLVED, Hashes, Ingredients, chain
from sft_runner.planning import wanted
from sft_runner.review.cases import Case, case
from sft_runner.review.diff import figures

VERSION = 1
"""Of what is asked and answered."""
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


def look(request: Request) -> dict[str, Any]:
    """Every case of the current folder: `{"version": 1, "cases": {"code": {...}, "code hardware=t4": {...}}}`."""
    forget()
    hashes, rows = _Hashes(), _Rows()
    found = {name: _of(one, hashes, rows) for name, one in _cases(request)}
    hashes.save()
    return {"version": VERSION, "cases": found}


def forget() -> None:
    """Forget what was read in another folder."""
    sources.forget()
    choices.cache_clear()
    figures.trainings.cache_clear()


def main() -> int:
    """Answer a request: one JSON object in, one out."""
    asked: dict[str, Any] = json.load(sys.stdin)
    only = asked.pop("only")
    request = Request(tuple(asked.pop("words")), tuple(asked.pop("presets")), None if only is None else tuple(only))
    json.dump(look(request), sys.stdout)
    return 0


def own_recipes() -> list[str]:
    """The recipes that lie in the current folder; those that came with the package are no part of a review."""
    mine = Path("recipes").resolve()
    return [name for name, file in recipes().items() if file.path.parent == mine]


def _cases(request: Request) -> Iterator[tuple[str, Case]]:
    """Each case with its name."""
    fixed = {word.partition("=")[0] for word in request.words}
    known = set(options("hardware"))
    for recipe in own_recipes() if request.only is None else [name for name in request.only if name in recipes()]:
        usual = case(recipe, *request.words)
        yield recipe, usual
        for preset in request.presets:
            if preset in known and "hardware" not in fixed and preset != usual.hardware:
                yield f"{recipe} hardware={preset}", case(recipe, *request.words, f"hardware={preset}")


def _of(one: Case, hashes: "_Hashes", rows: "_Rows") -> dict[str, Any]:
    """A case. `error` says why it is no run at all, `problem` why it cannot be planned."""
    told: dict[str, Any] = {"recipe": one.recipe, "words": list(one.words), "error": "", "problem": ""}
    told["file"] = shown(recipes()[one.recipe].path)
    try:
        run, places, used = _resolved(one)
    except (SftError, OSError) as error:
        return told | {"error": _short(error)}
    told |= {"settings": _settings(run, places), "files": used}
    stages = wanted(run.config.stage.until, run.config.export)
    try:
        run = engines.settled(run)
        data, problems, names = _data(run.config, hashes)
        ingredients = _unmistakable(chain(run.config, stages, data, hashes), run.config)
        told["stages"] = {name: {**vars(made), "fingerprint": made.fingerprint()} for name, made in ingredients.items()}
        told |= {"data": names, "problem": "; ".join(problems)}
        told["figures"] = figures.figures(run, stages, rows.of)
    except (SftError, OSError) as error:
        told["problem"] = "; ".join(filter(None, [told["problem"], _short(error)]))
    return told


def _resolved(one: Case) -> tuple[Run, dict[str, str], list[str]]:
    """The settled run, what sets each key, and the files that say anything."""
    words = one.words
    if any("," in word for word in words):  # a header may hold a sweep: its first job stands for all
        words = tuple(next(iter(composing.jobs(words)), words))
    found = layers.layers(words)
    run = layers.settled(found)
    files = {said.place.file for words in found.said.values() for said in words}
    names = {file: shown(file) for file in files if file}
    told = {key: said[-1].place for key, said in found.said.items()} | found.inside
    places = {key: _told(place, names) for key, place in told.items()}
    for decision in run.decisions:
        if decision.key not in found.said or found.said[decision.key][-1].value != decision.value:
            places[decision.key] = f"filled in: {decision.reason}"
    used = set(names.values())
    for group, chosen in found.choices.items():
        used |= {f"conf/{group}/{name}.yaml" for name in (chosen if isinstance(chosen, list) else [chosen]) if name}
    return run, places, sorted(used)


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
        yield from _parts(f"{key}.{name}", part)


def _place(key: str, places: Mapping[str, str]) -> str:
    """What set a key, or the mapping that it is in."""
    parts = key.split(".")
    names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((places[name] for name in names if name in places), "")


def _data(config: Config, hashes: "_Hashes") -> tuple[dict[str, str], list[str], dict[str, str]]:
    """The hashes that stages ask for, what is wrong with the data, and the hash of each file by its name.

    What is not on this machine counts by its address.
    """
    found: dict[str, str] = {}
    names: dict[str, str] = {}
    problems: list[str] = []
    for kind, data in (("data", config.data), ("sets", sets.as_data(config))):
        found[kind] = ""
        if data is None or (kind == "data" and not data.path and not data.sources):
            continue
        found[kind] = f"{UNRESOLVED} {data.path or json.dumps(data.sources, sort_keys=True, default=str)}"
        try:
            if not files.missing(data):
                found[kind] = files.content_hash(data, hashes.of)
                listed = files.source_files(data)
                names |= {shown(path): hashes.of(path) for path in listed} if len(listed) <= NAMED else {}
        except (SftError, OSError) as error:
            problems.append(_short(error))
    return found, problems, names


def _unmistakable(made: Mapping[str, Ingredients], config: Config) -> dict[str, Ingredients]:
    """Two models that are not on this machine are not the same: they count by their names."""
    found: dict[str, Ingredients] = {}
    for name, one in made.items():
        inputs = {stage: found[stage].fingerprint() for stage in one.inputs}
        model = f"{UNRESOLVED} {config.model.name}@{config.model.revision}" if one.model == UNRESOLVED else one.model
        found[name] = replace(one, model=model, inputs=inputs)
    return found


class _Hashes(Hashes):
    """Remembers what lies in the project, and reads each file of a side's own once."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[Path, str] = {}

    def of(self, path: Path) -> str:
        """The hash of one file; of a link that of the file it leads to."""
        if path not in self.seen:
            self.seen[path] = super().of(path.resolve())
        return self.seen[path]

    def save(self) -> None:
        """What lies in this side's folder is gone after the command, so it is not remembered."""
        own = str(Path.cwd().resolve())
        self.known = {path: entry for path, entry in self.known.items() if not path.startswith(own)}
        super().save()


class _Rows:
    """Counts the rows of the same data once."""

    def __init__(self) -> None:
        self.seen: dict[str, int | None] = {}

    def of(self, data: Data) -> int | None:
        """At most so many rows."""
        key = repr(asdict(data))
        if key not in self.seen:
            self.seen[key] = figures.most_rows(data)
        return self.seen[key]


def _short(error: Exception) -> str:
    """An error in one line."""
    return " ".join((error.message if isinstance(error, SftError) else str(error)).split())


if __name__ == "__main__":
    sys.exit(main())
