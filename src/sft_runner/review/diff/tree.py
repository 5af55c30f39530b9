"""The files of one side, in a folder of its own: what the sides have in common is linked to, what differs is written.

A command that runs there finds everything where it is in the project: ignored data, earlier runs, folders beside the
repository. Only what differs in git is taken from git, byte for byte; no filter program is run.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sft_runner.review.diff.git import LINK, SUBMODULE, Blob, Repository

LARGE = 1 << 20
"""Bytes from which on a file is written only where a recipe or a group file mentions it."""
_POINTER = b"version https://git-lfs.github.com/spec/v1"


@dataclass
class _Node:
    """What is known of one name."""

    children: dict[str, "_Node"] = field(default_factory=dict)
    """Names below it."""
    said: bool = False
    """Whether `content` tells what is there, and not the working tree."""
    content: bytes | None = None
    """The bytes of a file; None where there is none."""
    link: bool = False
    """Whether they are where a link leads to."""
    deep: bool = False
    """Whether folders below are folders, and not links, for they are walked through."""

    def at(self, path: str) -> "_Node":
        """The node of a path below, made where it is not there."""
        node = self
        for name in Path(path).parts:
            node = node.children.setdefault(name, _Node())
        return node

    @property
    def empty(self) -> bool:
        """Whether nothing of it is there."""
        return self.said and self.content is None and all(child.empty for child in self.children.values())


def build(
    root: Path,
    repository: Repository,
    differing: Mapping[str, Blob | None],
    walked: Iterable[str],
    mentioned: frozenset[str],
    outside: bool,
) -> tuple[Path, list[str]]:
    """Make the tree below the empty folder `root`; returns its counterpart of the repository's top, and what a person
    should know of it.

    `differing` is what this side has otherwise than the working tree, `walked` are folders whose folders are walked
    through, `mentioned` are names that stand in configuration. With `outside`, paths that begin with `..` lead where
    they do in the project.
    """
    top = root / repository.top.relative_to("/")
    tree, notes = _Node(), []
    for path in walked:
        tree.at(path).deep = True
    blobs = {path: blob for path, blob in differing.items() if blob}
    sizes = repository.sizes(blob.oid for blob in blobs.values() if blob.mode != SUBMODULE)
    wanted = []
    for path, blob in differing.items():
        if blob and blob.mode == SUBMODULE:
            notes.append(f"{path}: the files of this submodule are those of the working tree on both sides")
            continue
        tree.at(path).said = True
        large = blob is not None and sizes.get(blob.oid, 0) > LARGE
        if blob and (not large or not mentioned.isdisjoint([".", *Path(path).parts])):
            wanted.append(path)
    for path, content in zip(wanted, repository.contents(blobs[path].oid for path in wanted), strict=True):
        node = tree.at(path)
        if blobs[path].mode != LINK:
            node.content = content
        elif _inside(path, os.fsdecode(content)):
            node.content, node.link = content, True
        else:
            notes.append(f"{path}: a link that leads out of the repository is not followed")
    top.mkdir(parents=True)
    if outside:
        _beside(repository.top, root)
    _Filling(repository, root.parent, notes).fill(repository.top, top, tree)
    return top, notes


@dataclass
class _Filling:
    """Fills folders."""

    repository: Repository
    """Where large files may be kept."""
    own: Path
    """The folder of this command, which is never part of a tree."""
    notes: list[str]
    """Is told what a person should know."""

    def fill(self, source: Path | None, target: Path, node: _Node) -> None:
        """Fill a folder: what the node says, and links to all else that `source` holds."""
        here = set(os.listdir(source)) if source and source.is_dir() else set()
        for name in sorted({*here, *node.children}):
            child, place = node.children.get(name), target / name
            real = source / name if source and name in here else None
            if name == ".git" or real == self.own:
                continue
            if child is None and node.deep and real and real.is_dir() and not real.is_symlink() and name[0] != ".":
                child = _Node()
            if child is None:
                if real:
                    place.symlink_to(real)
                continue
            child.deep = child.deep or node.deep
            if child.content is not None:
                self._write(place, child, child.content)
            elif not all(one.empty for one in child.children.values()) or not child.said and real and real.is_dir():
                place.mkdir()
                self.fill(None if child.said else real, place, child)
                if child.children:
                    with suppress(OSError):
                        place.rmdir()  # git knows no empty folders
            elif not child.said and not child.children and real:
                place.symlink_to(real)

    def _write(self, place: Path, node: _Node, content: bytes) -> None:
        if node.link:
            place.symlink_to(os.fsdecode(content))
            return
        if content.startswith(_POINTER):
            fields = dict(line.split(b" ", 1) for line in content.splitlines() if b" " in line)
            name = fields.get(b"oid", b"").decode(errors="replace").rpartition(":")[2]
            kept = self.repository.objects / "lfs" / "objects" / name[:2] / name[2:4] / name
            if name.isalnum() and kept.is_file():
                place.symlink_to(kept)
                return
            self.notes.append(f"{place.name}: kept by git-lfs, and its bytes of that side are not here (git lfs fetch)")
        place.write_bytes(content)


def _beside(top: Path, root: Path) -> None:
    """Links to everything that lies beside the repository, and beside the folders above it."""
    for folder in (top, *top.parents):
        if folder == folder.parent:
            break
        with suppress(OSError):
            for name in os.listdir(folder.parent):
                place = root / folder.parent.relative_to("/") / name
                if name != folder.name and not place.exists():
                    place.symlink_to(folder.parent / name)


def _inside(path: str, target: str) -> bool:
    """Whether a link at `path` stays in the repository."""
    place = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return not target.startswith("/") and place != ".." and not place.startswith("../")
