"""What a run was made from, where it lies today: the user's data and task files, an earlier adapter, the base model.

Files of the user's may change after a run; that is said, and is no damage. Only the hub's cache says of itself what its
files are.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config, Data, Model
from sft_runner.data import files, sets
from sft_runner.errors import SftError
from sft_runner.evaluation import tasks
from sft_runner.fingerprint import LENGTH, gather
from sft_runner.model import continuing
from sft_runner.model.files import locate
from sft_runner.review.verify.finding import CHANGED, DAMAGE, UNCHECKED, Part
from sft_runner.review.verify.hashing import Fresh, Hasher, measured
from sft_runner.review.verify.places import Places
from sft_runner.stages import STAGES

COMMIT = re.compile(r"([0-9a-f]{40})( with its own code)?")
"""How a model of the hub stands in a manifest."""
WHOLE = "the run is whole; the same command would make it anew from what is there now"
Manifests = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Made:
    """What a run was made from."""

    config: Config
    """Its settings."""
    places: Places
    """Where the paths in them lead."""
    manifests: Manifests
    """Stage -> manifest, of those that can be read."""


def check(made: Made, hasher: Hasher) -> list[Part]:
    """Hold what is there today against the manifests; a part for each thing that the run was made from."""
    fresh, parts = Fresh(hasher), []
    checks: dict[str, Callable[[Part], None]] = {
        "data": partial(_data, made, fresh),
        "sets": partial(_sets, made, fresh),
        "tasks": partial(_tasks, made, fresh),
        "adapter": partial(_adapter, made, fresh),
        "base model": partial(_model, made, fresh),
    }
    for name, look in checks.items():
        part = Part(name)
        with measured(part, hasher), _told(part):
            look(part)
        if part.files or part.findings:
            parts.append(part)
    return parts


@contextmanager
def _told(part: Part) -> Iterator[None]:
    """What cannot be looked at is said, and stops nothing."""
    try:
        yield
    except SftError as error:
        part.add(UNCHECKED, part.name, error.message)
    except OSError as error:
        part.add(UNCHECKED, part.name, f"{error.filename}: {error.strerror}")
    except Exception as error:  # settings that are damaged, or of another version
        part.add(UNCHECKED, part.name, f"could not be looked at: {type(error).__name__}: {error}")


def _data(made: Made, fresh: Fresh, part: Part) -> None:
    """All rows that were learned from, and the template file."""
    if wanted := made.manifests.get("prepare", {}).get("data"):
        data = made.places.data(made.config.data)
        _content(part, data, data.path or "data.sources", str(wanted), fresh)


def _sets(made: Made, fresh: Fresh, part: Part) -> None:
    """Other rows that were scored."""
    stages = (name for name, stage in STAGES.items() if stage.data == "sets" and name in made.manifests)
    wanted = next((made.manifests[name].get("data") for name in stages), None)
    data = sets.as_data(made.config)
    if wanted and data:
        _content(part, made.places.data(data), sets.KEY, str(wanted), fresh)


def _content(part: Part, data: Data, place: str, wanted: str, fresh: Fresh) -> None:
    if gone := files.missing(data):
        part.add(UNCHECKED, place, f"not on this machine: {', '.join(gone)}")
        return
    found = files.content_hash(data, fresh.of)
    if found != wanted:
        part.add(CHANGED, place, "other bytes, or other files, than the run read", wanted, found, WHOLE)


def _tasks(made: Made, fresh: Fresh, part: Part) -> None:
    """The user's own task files for the harness."""
    wanted = _setting(made.manifests, tasks.KEY)
    folder = made.places.path(made.config.evaluate.benchmarks_path)
    if wanted is None or folder is None:
        return
    own = tasks.files(replace(made.config, evaluate=replace(made.config.evaluate, benchmarks_path=folder)))
    if not own:
        part.add(UNCHECKED, tasks.KEY, f"{folder} is not there, or empty")
    elif (found := fresh.together(own)[:LENGTH]) != wanted:
        part.add(CHANGED, folder, "other task files than the run read", str(wanted), found, WHOLE)


def _adapter(made: Made, fresh: Fresh, part: Part) -> None:
    """The adapter that was trained further."""
    wanted = _setting(made.manifests, continuing.KEY)
    if wanted is None:
        return
    folder = made.places.adapter()
    if folder is None:
        part.add(UNCHECKED, continuing.KEY, f"the adapter is not there: {made.config.train.continue_from}")
    elif (found := fresh.together([folder / name for name in continuing.FILES])[:LENGTH]) != wanted:
        part.add(CHANGED, str(folder), "another adapter than the run began with", str(wanted), found, WHOLE)


def _model(made: Made, fresh: Fresh, part: Part) -> None:
    """The base model: by the hub cache's own names, or by the bytes of its folder."""
    marks = {name: str(made.manifests[name].get("model") or "") for name in STAGES if name in made.manifests}
    commit = next((match[1] for mark in marks.values() if (match := COMMIT.fullmatch(mark))), None)
    name = made.config.model.name if commit else made.places.path(made.config.model.name) or ""
    model = replace(made.config.model, name=name, revision=commit or made.config.model.revision)
    folder = locate(model).folder
    if folder is None:
        part.add(UNCHECKED, model.name, "not on this machine" + (f" at commit {commit}" if commit else ""))
        return
    if commit:
        _cached(folder, model, part, fresh.hasher)
    seen: set[tuple[str, str]] = set()
    for stage, wanted in marks.items():
        kind = STAGES[stage].model
        if not kind or not wanted or COMMIT.fullmatch(wanted) or (kind, wanted) in seen:
            continue
        seen.add((kind, wanted))
        found = _mark(stage, made.config, model, fresh)
        if found != wanted:
            what = "other weights" if kind == "weights" else "another tokenizer"
            part.add(CHANGED, model.name, f"{what} than {stage} read", wanted, found, WHOLE)


def _mark(stage: str, config: Config, model: Model, fresh: Fresh) -> str:
    """How the base model stands in a stage's manifest."""
    bare = replace(
        config,
        model=model,
        train=replace(config.train, continue_from=None),
        evaluate=replace(config.evaluate, benchmarks=[], benchmarks_path=None),
    )
    return gather(STAGES[stage], bare, dict.fromkeys(STAGES, ""), {"data": "", "sets": ""}, fresh).model


def _cached(folder: Path, model: Model, part: Part, hasher: Hasher) -> None:
    """The files of a snapshot in the hub's cache: large ones are named by their SHA-256, small ones by git's SHA-1."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    named = {path: path.resolve().name for path in paths if path.resolve().parent.name == "blobs"}
    large = hasher.all(path for path, name in named.items() if len(name) == 64)
    again = f"hf download {model.name} --revision {model.revision} --force-download"
    for path, name in named.items():
        if path in large:
            facts = large[path]
            found = facts.strerror or "" if isinstance(facts, OSError) else str(facts["sha256"])
        elif len(name) == 40:
            found = hasher.git_blob(path)
        else:
            part.add(UNCHECKED, str(path), "the cache does not name it by a hash")
            continue
        if found != name:
            part.add(DAMAGE, str(path), "not the hub's file: other bytes than its name says", name, found, again)
    if unnamed := len(paths) - len(named):
        part.add(UNCHECKED, str(folder), f"{unnamed:,} files are copies that the hub's cache has no hash for")


def _setting(manifests: Manifests, key: str) -> Any:
    """What the stages' fingerprints say of a setting that counts by its files."""
    return next((said for made in manifests.values() if (said := (made.get("config") or {}).get(key))), None)
