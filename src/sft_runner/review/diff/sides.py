"""Both sides of a comparison, resolved at the same time: which code and which files each of them takes."""

import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sft_runner.config.file import read
from sft_runner.config.sources import PACKAGE, folders
from sft_runner.errors import MachineError, UnknownName, UserError
from sft_runner.review.diff import tree
from sft_runner.review.diff.answers import Answer, Place, answers
from sft_runner.review.diff.git import Blob, Commit, Repository
from sft_runner.review.diff.side import Request


@dataclass(frozen=True)
class Sides:
    """What there is to compare."""

    old: Answer
    """The cases before: name -> what `side` says of it."""
    new: Answer
    """The cases after."""
    told: tuple[str, str]
    """What the sides are, in words."""
    groups: list[str] = field(default_factory=list)
    """Files of `conf/` whose values differ, from the current folder."""
    notes: list[str] = field(default_factory=list)
    """What a person should know of how they were compared."""


def sides(said: str | None, words: Sequence[str], only: Collection[str]) -> Sides:
    """Look at both sides of `A`, `A..B`, `A...B`, or of the default. Raises `UserError`."""
    repository = Repository.around(Path.cwd())
    old, new = repository.sides(said)
    told = (str(old), str(new) if new else "the working tree")
    before, after = _differing(repository, old, new)
    changed = {path for path in {*before, *after} if before.get(path, path) != after.get(path, path)}
    if not changed:
        _require(only, {file.stem for file in Path("recipes").glob("*.yaml")} if new is None else only)
        return Sides({}, {}, told)
    root = Path(tempfile.mkdtemp(prefix="sft-runner-diff-")).resolve()
    try:
        mentioned = _mentioned(repository, {**before, **after}, words)
        built = [
            _built(root / name, repository, differing, changed, mentioned)
            for name, differing in (("old", before), ("new", after))
        ]
        places, notes = [place for place, _ in built], [note for _, found in built for note in found]
        groups = _changed_groups(places, repository, changed)
        presets = [Path(name).stem for name in groups if Path(name).parent.name == "hardware"]
        request = Request(tuple(words), tuple(presets), _asked(places, repository, changed, only))
        looked = answers(places, request, notes)
        errors = {case["error"] for one in looked for case in one["cases"].values()}
        if words and len(errors) == 1 and (wrong := errors.pop()):
            raise UserError(f"{' '.join(words)}: {wrong}", "no recipe goes with these words, before or after")
        return Sides(looked[0]["cases"], looked[1]["cases"], told, groups, list(dict.fromkeys(notes)))
    except OSError as error:
        raise MachineError(f"the files of both sides: {error}", f"{root.parent} needs some room; see TMPDIR") from error
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _differing(
    repository: Repository, old: Commit, new: Commit | None
) -> tuple[dict[str, Blob | None], dict[str, Blob | None]]:
    """What each side has otherwise than the working tree. This machine's own settings are on neither side."""
    before, after = repository.differing(old), repository.differing(new) if new else {}
    own = [(repository.prefix / name).as_posix() for name in ("conf", "recipes")]
    for path in repository.untracked(*own):
        if path.endswith(".yaml"):  # a recipe that is to be added; any other file is the same on both sides
            before.setdefault(path, None)
            if new:
                after.setdefault(path, None)
    local = (repository.prefix / "conf" / "local").as_posix()
    for found in (before, after):
        for path in [path for path in found if path.startswith(f"{local}/")]:
            del found[path]
        found[local] = None
    return before, after


def _mentioned(repository: Repository, differing: Mapping[str, Blob | None], words: Iterable[str]) -> frozenset[str]:
    """Everything in configuration, of all sides, that may be a path, and each name in it."""
    own = [repository.top / repository.prefix / name for name in ("conf", "recipes")]
    paths = [path for folder in own for path in folder.rglob("*.yaml") if path.is_file()]
    blobs = [blob.oid for path, blob in differing.items() if blob and path.endswith((".yaml", ".py"))]
    texts = [" ".join(words), *(path.read_text(encoding="utf-8", errors="replace") for path in paths)]
    found = set(_tokens([*texts, *(content.decode(errors="replace") for content in repository.contents(blobs))]))
    shipped = [path for name in ("conf", "recipes") for folder in folders(name) for path in folder.rglob("*.yaml")]
    return frozenset(
        found.union(
            _tokens(path.read_text(encoding="utf-8", errors="replace") for path in shipped if path.stem in found)
        )
    )


def _tokens(texts: Iterable[str]) -> Iterator[str]:
    for line in {line for text in texts for line in text.splitlines()}:
        whole = line.partition(" #")[0].partition(":")[2].strip(" '\"")
        for token in [whole, *re.findall(r"[^\s'\",:=\[\]{}()]+", line)]:
            yield token
            yield from token.split("/")


def _built(
    root: Path, repository: Repository, differing: dict[str, Blob | None], changed: set[str], mentioned: frozenset[str]
) -> tuple[Place, list[str]]:
    """The tree of one side."""
    prefix = repository.prefix
    projects = [prefix]
    source = PACKAGE.relative_to(repository.top) if PACKAGE.is_relative_to(repository.top) else None
    checkout = source is not None and source.parent.name == "src"
    if checkout and source:
        projects.append(source.parents[1])
    walked = {(project / name).as_posix() for project in projects for name in ("conf", "recipes")}
    above = {folder.as_posix() for path in changed for folder in Path(path).parents}
    named = {os.path.normpath(prefix / token) for token in mentioned if token}
    walked |= above & {name for name in named if not name.startswith("..")}
    outside = ".." in mentioned
    top, notes = tree.build(root, repository, differing, walked, mentioned, outside)
    package = top / source if checkout and source else PACKAGE
    return Place(root, top, top / prefix, package), notes


def _changed_groups(places: list[Place], repository: Repository, changed: set[str]) -> list[str]:
    """The files of `conf/` whose values differ."""
    found = []
    for path in sorted(changed):
        if path.endswith(".yaml") and Path(path).is_relative_to(repository.prefix / "conf"):
            name = Path(path).relative_to(repository.prefix)
            both = [place.folder / name for place in places]
            values = [read(file).values if file.is_file() else None for file in both]
            if values[0] != values[1] or not all(file.is_file() for file in both):
                found.append(name.as_posix())
    return found


def _asked(
    places: list[Place], repository: Repository, changed: set[str], only: Collection[str]
) -> tuple[str, ...] | None:
    """The recipes that can have changed; None for all. Raises `UnknownName` for one that is on neither side."""
    texts: dict[str, str] = {}
    for place in places:
        for file in sorted((place.folder / "recipes").glob("*.yaml")):
            texts[file.stem] = texts.get(file.stem, "") + file.read_text(encoding="utf-8", errors="replace")
    _require(only, texts)
    if only:
        return tuple(only)
    recipes = repository.prefix / "recipes"
    if not all(Path(path).parent == recipes and path.endswith(".yaml") for path in changed):
        return None
    found = {Path(path).stem for path in changed}
    while more := {name for name, text in texts.items() if name not in found and any(one in text for one in found)}:
        found |= more  # it may extend one of them
    return tuple(sorted(found))


def _require(only: Iterable[str], known: Collection[str]) -> None:
    """Raises `UnknownName` for a recipe that is not known."""
    for name in only:
        if name not in known:
            raise UnknownName("recipe", name, known)
