"""Both sides of a comparison, resolved at the same time: which code and which files each of them takes."""

import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sft_runner.config.file import read, shown
from sft_runner.config.sources import PACKAGE, folders
from sft_runner.errors import MachineError, UnknownName, UserError
from sft_runner.review.diff.answers import Answer, Place, answers
from sft_runner.review.diff.cleaning import cleaned, read_by
from sft_runner.review.diff.git import Commit, Repository
from sft_runner.review.diff.index import LINK, Blob
from sft_runner.review.diff.side import Request
from sft_runner.review.diff.tree import Tree

_PREFIX = "sft-runner-diff-"
"""What the folders of this command begin with; behind it is the number of its process."""
PARTS = ("recipes", "conf")
"""The folders of a project, one of which is there."""
NAMED = 5
"""Up to so many other projects are named."""
_Differing = dict[str, Blob | None]


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
    unknown: list[str] = field(default_factory=list)
    """What a recipe reads and nobody can compare."""


def sides(said: str | None, words: Sequence[str], only: Collection[str]) -> Sides:
    """Look at both sides of `A`, `A..B`, `A...B`, or of the default. Raises `UserError`."""
    repository = Repository.around(Path.cwd())
    old, new = repository.sides(said)
    _require_project(repository, old, new)
    told = (str(old), str(new) if new else "the working tree")
    untracked = repository.untracked()
    outside = _outside(repository, untracked)
    before, after = _differing(repository, old, new, [path for path in untracked if path not in outside])
    changed = {path for path in {*before, *after} if before.get(path, path) != after.get(path, path)}
    if not changed and not words and not only:
        return Sides({}, {}, told)
    _remove_left_over()
    root = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-")).resolve()
    try:
        return _compared(root, repository, (before, after), outside, changed, told, words, only)
    except OSError as error:
        raise MachineError(f"the files of both sides: {error}", f"{root.parent} needs some room; see TMPDIR") from error
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _compared(
    root: Path,
    repository: Repository,
    differing: tuple[_Differing, _Differing],
    outside: Mapping[str, str],
    changed: Collection[str],
    told: tuple[str, str],
    words: Sequence[str],
    only: Collection[str],
) -> Sides:
    """Both sides, in folders below `root`."""
    known = {**repository.links({**differing[0], **differing[1]}), **outside}
    trees = [
        Tree(root / name, repository, one, _links(repository, one, known), known)
        for name, one in zip(("old", "new"), differing, strict=True)
    ]
    places = [_configured(tree, repository) for tree in trees]
    notes = [note for tree in trees for note in tree.notes]
    source = repository.top / "src/sft_runner"
    if places[0].package == PACKAGE and any(path.startswith("src/sft_runner/") for path in changed):
        notes.append(f"{shown(source)} is not the code that runs: the installed sft_runner resolves both sides")
    groups = list(_changed_groups(places))
    presets = [Path(name).stem for name in groups if Path(name).parent.name == "hardware"]
    texts = [_recipes(place) for place in places]
    _require(only, {*texts[0], *texts[1]})
    request = Request(tuple(words), tuple(presets), _asked(texts, repository, changed, words, only))

    def bring(number: int, paths: Sequence[str]) -> None:
        for path in paths:
            trees[number].need(os.path.join(repository.prefix, path))

    looked = answers(places, request, bring, notes)
    variables = read_by([" ".join(words), *_configuration(places)])
    looked = [cleaned(answer, place, variables) for answer, place in zip(looked, places, strict=True)]
    errors = {case["error"] for one in looked for case in one["cases"].values()}
    if words and len(errors) == 1 and (wrong := errors.pop()):
        raise UserError(f"{' '.join(words)}: {wrong}", "no recipe goes with these words, before or after")
    notes += [note for tree in trees for note in tree.notes]
    unknown = [note for tree in trees for note in tree.unknown]
    found = (looked[0]["cases"], looked[1]["cases"])
    return Sides(*found, told, groups, list(dict.fromkeys(notes)), list(dict.fromkeys(unknown)))


def _outside(repository: Repository, untracked: Iterable[str]) -> dict[str, str]:
    """Untracked links out of the repository, path -> target: this machine's own, such as `data` -> `/mnt/data`."""
    local = repository.prefix / "conf" / "local"
    links = {path: os.readlink(place) for path in untracked if (place := repository.top / path).is_symlink()}
    found = {path: target for path, target in links.items() if repository.inside(path, target) is None}
    return {path: target for path, target in found.items() if not Path(path).is_relative_to(local)}


def _differing(
    repository: Repository, old: Commit, new: Commit | None, untracked: Iterable[str]
) -> tuple[_Differing, _Differing]:
    """What each side has otherwise than the working tree. This machine's own settings are on neither side."""
    before, after = repository.differing(old, alone=new is None), repository.differing(new) if new else {}
    for path in untracked:  # it is to be added
        before.setdefault(path, None)
        if new:
            after.setdefault(path, None)
    local = (repository.prefix / "conf" / "local").as_posix()
    for found in (before, after):
        for path in [path for path in found if path.startswith(f"{local}/")]:
            del found[path]
        found[local] = None
    return before, after


def _links(repository: Repository, differing: _Differing, known: Mapping[str, str]) -> dict[str, str]:
    """The links of a side."""
    own = {path: repository.target(blob) for path, blob in differing.items() if blob and blob.mode == LINK}
    folders = {above.as_posix() for path, blob in differing.items() if blob for above in Path(path).parents}
    return {path: target for path, target in known.items() if path not in differing and path not in folders} | own


def _configured(tree: Tree, repository: Repository) -> Place:
    """Where a side is, with its configuration and its code."""
    projects, package = [repository.prefix], PACKAGE
    source = PACKAGE.relative_to(repository.top) if PACKAGE.is_relative_to(repository.top) else None
    if source is not None and source.parent.name == "src":
        projects.append(source.parents[1])
        package = tree.top / source
        for path in (source, source.parents[1] / "pyproject.toml"):
            tree.need(path.as_posix(), deep=False)
    for project in projects:
        for name in ("conf", "recipes"):
            tree.configuration((project / name).as_posix())
    folder = tree.top / repository.prefix
    folder.mkdir(parents=True, exist_ok=True)  # it may be new on the other side
    return Place(tree.root, tree.top, folder, package)


def _changed_groups(places: Sequence[Place]) -> Iterator[str]:
    """The files of `conf/` whose values differ."""
    found = [{file.relative_to(p.folder).as_posix(): file for file in _below(p.folder / "conf")} for p in places]
    for name in sorted({*found[0], *found[1]}):
        both = [files.get(name) for files in found]
        if None in both or read(both[0]).values != read(both[1]).values:  # type: ignore[arg-type]
            yield name


def _below(folder: Path) -> list[Path]:
    """The YAML files of a folder, in folders behind links too."""
    return [path for form in ("*.yaml", "*/*.yaml", "*/*/*.yaml") for path in folder.glob(form) if path.is_file()]


def _recipes(place: Place) -> dict[str, str]:
    """Recipe -> its text."""
    return {file.stem: _text(file) for file in _below(place.folder / "recipes") if file.parent.name == "recipes"}


def _configuration(places: Sequence[Place]) -> Iterator[str]:
    """Everything in YAML that a side may be composed of."""
    for place in places:
        for name in ("conf", "recipes"):
            yield from map(_text, _below(place.folder / name))
    yield from (_text(file) for name in ("conf", "recipes") for folder in folders(name) for file in _below(folder))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _asked(
    texts: Sequence[Mapping[str, str]],
    repository: Repository,
    changed: Collection[str],
    words: Sequence[str],
    only: Collection[str],
) -> tuple[str, ...] | None:
    """The recipes that can have changed; None for all."""
    if only:
        return tuple(only)
    recipes = repository.prefix / "recipes"
    if words and not changed or not all(Path(path).parent == recipes and path.endswith(".yaml") for path in changed):
        return None  # words are to be tried also where nothing changes
    every = {name: texts[0].get(name, "") + texts[1].get(name, "") for name in {*texts[0], *texts[1]}}
    found = {name for name in every if texts[0].get(name) != texts[1].get(name)}
    while more := {name for name, text in every.items() if name not in found and any(one in text for one in found)}:
        found |= more  # it may extend one of them
    return tuple(sorted(found))


def _require(only: Iterable[str], known: Collection[str]) -> None:
    """Raises `UnknownName` for a recipe that is not known."""
    for name in only:
        if name not in known:
            raise UnknownName("recipe", name, known)


def _require_project(repository: Repository, *commits: Commit | None) -> None:
    """Raises `UserError` where neither side has recipes or configuration in the current folder."""
    if any(Path(name).is_dir() for name in PARTS) or any(one and repository.holds(one, *PARTS) for one in commits):
        return
    found = repository.projects()
    hint = f"run it in the folder {' or '.join(found[:NAMED])}" if found else "run it in the folder of the project"
    raise UserError(f"{Path.cwd()} has no {' and no '.join(PARTS)}, on neither side: it is no project", hint)


def _remove_left_over() -> None:
    """Remove the folders of commands that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        with suppress(OSError):
            if owner.isdigit() and folder.stat().st_uid == os.getuid() and not _runs(int(owner)):
                shutil.rmtree(folder, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
