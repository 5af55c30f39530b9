"""What git's own comparison passes over: links and submodules, and files that it is told not to look at."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sft_runner.review.diff.calling import Ended, ask, checked

LINK, SUBMODULE = "120000", "160000"
"""Modes of entries that are no files."""


@dataclass(frozen=True)
class Blob:
    """What a commit has at a path."""

    mode: str
    """`100644`, `100755`, `120000` for a link, `160000` for a submodule."""
    oid: str
    """Name of its bytes."""


@dataclass(frozen=True)
class Entry:
    """A path of the index."""

    blob: Blob
    """What is there."""
    unwatched: bool
    """Whether git takes it for unchanged whatever the working tree has: `--assume-unchanged`, `--skip-worktree`."""


@dataclass(frozen=True)
class Index:
    """The index of a repository, as far as it is more than files that git compares."""

    top: Path
    """The folder of the repository."""
    variables: Mapping[str, str]
    """What git runs with besides, so that none of the repository's programs does."""

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """Path from the top -> links, submodules, and files that git is told not to look at. Raises `UserError`."""
        found = {}
        told = os.fsdecode(checked("ls-files", self._ask("ls-files", "-z", "--stage", "-v")))
        for entry in told.split("\0")[:-1]:
            said, _, path = entry.partition("\t")
            tag, mode, oid, stage = said.split(" ")
            unwatched = stage == "0" and (tag.islower() or tag == "S")
            if unwatched or mode in (LINK, SUBMODULE):
                found[path] = Entry(Blob(mode, oid), unwatched)
        return found

    def unwatched(self) -> dict[str, Blob]:
        """What the index has where git is told not to look, and the working tree has something else."""
        marked = {path: entry.blob for path, entry in self.entries.items() if entry.unwatched}
        here = {path: blob for path, blob in marked.items() if os.path.lexists(self.top / path)}
        here = {path: blob for path, blob in here.items() if not self._is_still(path, blob)}
        files = [path for path, blob in here.items() if blob.mode not in (LINK, SUBMODULE)]
        files = [path for path in files if (self.top / path).is_file() and not (self.top / path).is_symlink()]
        files = [path for path in files if "\n" not in path and path[0] != '"']  # git would read others from these
        if files:
            asked = os.fsencode("".join(f"{path}\n" for path in files))
            told = checked("hash-object", self._ask("hash-object", "--stdin-paths", text=asked))
            hashes = os.fsdecode(told).split("\n")
            same = {path for path, oid in zip(files, hashes, strict=False) if oid == here[path].oid}
            here = {path: blob for path, blob in here.items() if path not in same}
        return here

    def submodules(self) -> Iterator[Path]:
        """The folders of all submodules that are here and that git may look into, those inside of others too."""
        for path, entry in self.entries.items():
            place = self.top / path
            if entry.blob.mode == SUBMODULE and (place / ".git").exists() and not ask(place, "rev-parse").returncode:
                yield place
                yield from Index(place, {}).submodules()

    def _is_still(self, path: str, blob: Blob) -> bool:
        """Whether a link or a submodule is what the index has."""
        if blob.mode == SUBMODULE:
            ended = ask(self.top / path, "rev-parse", "--verify", "--quiet", "HEAD")
        elif blob.mode == LINK and (self.top / path).is_symlink():
            ended = self._ask("hash-object", "--stdin", text=os.fsencode(os.readlink(self.top / path)))
        else:
            return False
        return os.fsdecode(ended.stdout).strip() == blob.oid

    def _ask(self, *words: str, text: bytes = b"") -> Ended:
        return ask(self.top, *words, more=self.variables, text=text)
