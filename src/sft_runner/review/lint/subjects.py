"""Which files are looked at: all that lie in the folders of recipes and choices, the user's and the shipped ones."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from sft_runner.config.sources import folders, group_of, read, recipes
from sft_runner.review.cases import HARDWARE, said
from sft_runner.review.lint.composition import baseline, compose
from sft_runner.review.lint.subject import CHOICE, LOCAL, LOCK, MAIN, RECIPE, RECORD, UNREAD, Subject

ENDINGS = {".lock": LOCK, ".results.md": RECORD}
"""What lies beside a recipe."""


def subjects() -> list[Subject]:
    """Every file, the user's own first; a shipped one that is hidden by the user's is none, for it is not what runs."""
    baseline.cache_clear()
    found: dict[tuple[str, str, str], Subject] = {}
    for name, make in (("recipes", _in_recipes), ("conf", _in_conf)):
        own = Path.cwd() / name
        for folder in folders(name):
            for one in make(folder):
                one.own = own.is_dir() and folder.samefile(own)
                first = found.setdefault((one.kind, one.group, one.path.relative_to(folder).as_posix()), one)
                if first is not one:
                    first.shadowed = one.path
    return list(found.values())


def users(changed: Sequence[Subject], everything: Sequence[Subject]) -> Iterator[Subject]:
    """The recipes that are made of one of the changed files, or lie beside one; one that does not compose may be."""
    paths = {one.path for one in changed if one.kind in (RECIPE, CHOICE, MAIN)}
    beside = {one.name for one in changed if one.kind in (LOCK, RECORD)}
    everywhere = any(one.kind == MAIN for one in changed)
    others = everywhere or any(one.kind == CHOICE for one in changed)
    for one in everything:
        if one.kind != RECIPE or one.path in paths:
            continue
        if everywhere or one.name in beside or (paths and (others or _extends(one)) and _reads(one, paths)):
            yield one


def _extends(recipe: Subject) -> bool:
    """Whether a recipe is made of another one."""
    entries = (recipe.file.values or {}).get("defaults")
    return isinstance(entries, list) and any(isinstance(entry, str) and entry != "_self_" for entry in entries)


def _reads(recipe: Subject, paths: set[Path]) -> bool:
    """Whether a word of one of these files goes into the recipe: as its command composes it, else on the CPU."""
    if recipe.composition is None:
        return False  # one with mistakes of its own is no matter of this change
    found = recipe.composition.found or compose([said("recipe", recipe.name), f"hardware={HARDWARE}"]).found
    if found is None:
        return True
    return any(word.place.file in paths for words in found.said.values() for word in words)


def groups_read() -> set[str]:
    """The groups that something is chosen from: those of conf/sft.yaml and of the defaults of recipes, and this
    machine's own settings."""
    mains = [read(path) for folder in folders("conf") if (path := folder / "sft.yaml").is_file()]
    found = {LOCAL}
    for file in (*recipes().values(), *mains):
        entries = (file.values or {}).get("defaults")
        for entry in entries if isinstance(entries, list) else ():
            found |= {group_of(str(key)) for key in entry} if isinstance(entry, dict) else set()
    return found


def _in_recipes(folder: Path) -> Iterator[Subject]:
    for path in sorted(folder.rglob("*")):
        kind = next((kind for ending, kind in ENDINGS.items() if path.name.endswith(ending)), None)
        if path.parent != folder or kind is None:
            if path.suffix not in (".yaml", ".yml"):
                continue
            kind = RECIPE if path.parent == folder and path.suffix == ".yaml" else UNREAD
        yield Subject(path, kind, "recipe" if kind != UNREAD else "")


def _in_conf(folder: Path) -> Iterator[Subject]:
    known = groups_read()
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".yaml", ".yml"):
            continue
        group = path.parent.relative_to(folder).as_posix()
        if group == "." and path.name == "sft.yaml":
            yield Subject(path, MAIN)
        elif path.suffix == ".yaml" and group in known:
            yield Subject(path, CHOICE, group)
        else:
            yield Subject(path, UNREAD, "" if group == "." else group)
