"""The files of one side, in a folder of its own: what the sides have in common is linked to, what differs is written.

A command that runs there finds everything where it is in the project: ignored data, earlier runs, folders beside the
repository. Folders are made as far as somebody needs what lies in them; only what differs in git is taken from git,
byte for byte.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from sft_runner.review.diff.git import Repository
from sft_runner.review.diff.index import LINK, SUBMODULE, Blob

_POINTER = b"version https://git-lfs.github.com/spec/v1"
_LARGEST_POINTER = 1024
"""Bytes; git-lfs reads no longer ones."""
_LINKS = 40
"""Links behind each other that are followed, as on Linux."""


class Tree:
    """One side."""

    def __init__(
        self,
        root: Path,
        repository: Repository,
        differing: Mapping[str, Blob | None],
        links: Mapping[str, str],
        known: Mapping[str, str],
    ) -> None:
        """`root`, an empty folder, stands for `/`. `differing` is what this side has otherwise than the working tree;
        `links` are the links that this side holds, path -> target; `known` are those of the working tree that git does
        not ignore. Ignored ones are this machine's own, and are followed wherever they lead; another one that leads out
        of the repository only where the working tree has the same, and never to configuration, whose text is shown."""
        self.root, self.repository, self.differing, self.links, self.known = root, repository, differing, links, known
        self.top = root / repository.top.relative_to("/")
        """Its counterpart of the repository's folder."""
        self.notes: list[str] = []
        """What a person should know of it."""
        self.unknown: list[str] = []
        """What is needed of it and cannot be had: nobody knows whether it differs."""
        self._below: dict[str, set[str]] = {}
        """Folder -> names in it on the way to something that differs or to a link."""
        for path in (*differing, *links):
            self._lead(path)
        self._made: set[str] = set()
        self._deep: set[str] = set()
        self._configures = False
        self._refused: set[str] = set()
        self._written: dict[str, Blob] = {}
        self.top.mkdir(parents=True)
        self._open("")

    def configuration(self, folder: str) -> None:
        """Make a folder and all below it, also where it is the same as in the working tree."""
        if self._is_folder(folder):
            self._lead(f"{folder}/")
        self._configures = True
        self.need(folder)
        self._configures = False

    def need(self, path: str, deep: bool = True) -> None:
        """Make what is at a path of the repository, and all below it, as this side has it; `..` leads out of it.

        With `deep`, folders below are folders and not links, for they are walked through.
        """
        path = os.path.normpath(path)
        if path == ".." or path.startswith("../"):
            self._beside()
        elif not path.startswith("/"):
            self._need([name for name in path.split("/") if name != "."], deep, _LINKS)
            self._write()

    def _lead(self, path: str) -> None:
        """Remember that something is to be made at a path."""
        while path:
            above, _, name = path.rpartition("/")
            names = self._below.setdefault(above, set())
            if name in names:
                break
            if name:
                names.add(name)
            path = above

    def _need(self, parts: list[str], deep: bool, links: int) -> None:
        here = ""
        for number, name in enumerate(parts):
            self._open(here)
            here = f"{here}/{name}" if here else name
            if here in self.links or here in self.differing and self._is_file(here):
                if here in self.links:
                    self._follow(here, parts[number + 1 :], deep, links)
                else:
                    self._take(here)
                return
            if self._submodule(here) or here not in self._below:
                return  # as in the working tree
        self._fill(here, deep, links)

    def _fill(self, folder: str, deep: bool, links: int) -> None:
        """Everything below a folder."""
        if folder in self._deep:
            return
        self._deep.add(folder)
        if not self._open(folder):
            return
        for name in sorted(self._names(folder)):
            path = f"{folder}/{name}" if folder else name
            if path in self.links:
                self._follow(path, [], deep, links)
            elif path in self.differing and self._is_file(path):
                self._take(path)
            elif self._submodule(path) or path in self._below or deep and name[0] != "." and self._is_folder(path):
                self._fill(path, deep, links)
        with suppress(OSError):
            if folder:
                (self.top / folder).rmdir()  # git knows no empty folders

    def _follow(self, path: str, rest: list[str], deep: bool, links: int) -> None:
        """Copy a link, and make what it leads to."""
        inside = self.repository.inside(path, self.links[path])
        if inside is None:
            self._leave(path)
        elif links:
            if not os.path.lexists(self.top / path):
                (self.top / path).symlink_to(os.path.relpath(inside, os.path.dirname(path) or "."))
            place = os.path.normpath(os.path.join(inside, *rest))
            self._need([name for name in place.split("/") if name != "."], deep, links - 1)

    def _leave(self, path: str) -> None:
        """A link that leads out of the repository."""
        if self._configures or path in self._refused or self.known.get(path) != self.links[path]:
            self._refused.add(path)
            self.notes.append(f"{path}: a link that leads out of the repository is not followed")
            return
        self.notes.append(f"{path}: a link that leads out of the repository; what lies there is the same on both sides")
        if not os.path.lexists(self.top / path):
            (self.top / path).symlink_to(self.repository.top / path)

    def _open(self, folder: str) -> bool:
        """Make a folder with links to what the working tree has and this side does not have otherwise."""
        place = self.top / folder
        if folder in self._made:
            return place.is_dir()
        self._made.add(folder)
        real = self._real(folder)
        if real is None and folder not in self._below:
            return False
        if place.is_symlink():
            place.unlink()
        place.mkdir(exist_ok=True)
        for entry in os.scandir(real) if real else ():
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name == ".git" or path in self.links or Path(entry.path) in self.root.parents:
                continue
            if path in self.differing and not self._is_submodule(path):
                continue
            if path in self.known:
                continue  # a link that this side does not have
            (place / entry.name).symlink_to(entry.path)
        return True

    def _names(self, folder: str) -> set[str]:
        real = self._real(folder)
        found = self._below.get(folder, set()) | (set(os.listdir(real)) if real else set())
        return found - {".git"}

    def _real(self, folder: str) -> Path | None:
        """The folder of the working tree that holds what this side has in common with it."""
        real = self.repository.top / folder
        if any(self.differing.get(above, True) is None for above in _aboves(folder)):
            return None
        return real if real.is_dir() and not real.is_symlink() else None

    def _is_folder(self, path: str) -> bool:
        real = self.repository.top / path
        return real.is_dir() and not real.is_symlink() and real not in self.root.parents

    def _is_file(self, path: str) -> bool:
        """Whether what differs is a file, and no folder or submodule."""
        blob = self.differing[path]
        return blob is not None and blob.mode != SUBMODULE or blob is None and path not in self._below

    def _is_submodule(self, path: str) -> bool:
        blob = self.differing.get(path)
        return blob is not None and blob.mode == SUBMODULE

    def _submodule(self, path: str) -> bool:
        """Whether a path that is needed is a submodule which differs: that is told."""
        if not self._is_submodule(path):
            return False
        told = (
            f"{path}: another commit of this submodule, or changes in it that are not committed; its files are taken "
            "from the working tree on both sides"
        )
        if told not in self.unknown:
            self.unknown.append(told)
        return True

    def _take(self, path: str) -> None:
        blob = self.differing[path]
        if blob is not None and blob.mode != LINK and not os.path.lexists(self.top / path):
            self._written[path] = blob

    def _write(self) -> None:
        """Write the files that were asked for."""
        asked, self._written = self._written, {}
        for path in asked:
            (self.top / path).parent.mkdir(parents=True, exist_ok=True)
            assert (self.top / path).parent.resolve().is_relative_to(self.root), "nothing is written elsewhere"
        self.repository.write({self.top / path: blob.oid for path, blob in asked.items()})
        for path in asked:
            self._take_large(path)

    def _take_large(self, path: str) -> None:
        """Put the file of git-lfs where its pointer is."""
        place = self.top / path
        if place.stat().st_size > _LARGEST_POINTER or not (content := place.read_bytes()).startswith(_POINTER):
            return
        fields = dict(line.split(b" ", 1) for line in content.splitlines() if b" " in line)
        name = fields.get(b"oid", b"").decode(errors="replace").rpartition(":")[2]
        kept = self.repository.objects / "lfs" / "objects" / name[:2] / name[2:4] / name
        if name.isalnum() and kept.is_file():
            place.unlink()
            place.symlink_to(kept)
            return
        self.notes.append(f"{path}: kept by git-lfs, and its bytes of that side are not here (git lfs fetch)")

    def _beside(self) -> None:
        """Links to everything that lies beside the repository, and beside the folders above it."""
        for folder in (self.repository.top, *self.repository.top.parents):
            if folder == folder.parent:
                break
            with suppress(OSError):
                for name in os.listdir(folder.parent):
                    place = self.root / folder.parent.relative_to("/") / name
                    if name != folder.name and not os.path.lexists(place):
                        place.symlink_to(folder.parent / name)


def _aboves(path: str) -> list[str]:
    """A path and all above it but the top."""
    parts = path.split("/") if path else []
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
