"""What git knows of the two sides. It is only read: no branch, no worktree, no lock and no index is touched."""

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sft_runner.errors import UnknownName, UserError
from sft_runner.review.diff.calling import Ended, ask, begun, checked, complaint, without_filters
from sft_runner.review.diff.index import LINK, Blob, Index

CHUNK = 1 << 20
"""Bytes that are read at once."""
_ABSENT = "000000"


@dataclass(frozen=True)
class Commit:
    """One side that is a commit."""

    oid: str
    """Its full name."""
    told: str
    """How the user knows it: `main`, `the merge base with origin/main`."""

    def __str__(self) -> str:
        return f"{self.oid[:10]} ({self.told})" if not self.oid.startswith(self.told) else self.oid[:10]


@dataclass(frozen=True)
class Repository:
    """The repository around the folder that a command runs in."""

    top: Path
    """Its folder."""
    prefix: Path
    """The folder of the command, from there."""
    shallow: bool
    """Whether its history is cut off."""
    objects: Path
    """Where git keeps its objects; large files lie beside them (`lfs/objects`)."""
    variables: Mapping[str, str]
    """What git is to be told besides."""

    @classmethod
    def around(cls, folder: Path) -> "Repository":
        """Raises `UserError` where there is no git or no repository."""
        words = ("rev-parse", "--show-toplevel", "--is-shallow-repository", "--git-common-dir")
        ended = ask(folder, *words)
        if ended.returncode:
            said = complaint(ended)
            if "not a git repository" in said or "must be run in a work tree" in said:
                hint = "diff compares with a commit; run it in the folder of the project, after git init and a commit"
                if "GIT_DIR" in os.environ:
                    hint = "GIT_DIR counts for nothing here: the repository is that around the folder"
                raise UserError(f"there is no git repository around {folder}", hint)
            lines = ended.stderr.decode(errors="replace").split("\n")
            hint = next(
                (line.strip() for line in lines if line.strip().startswith("git config")), "git itself says why"
            )
            raise UserError(f"git: {said}", hint)
        top, shallow, common = os.fsdecode(ended.stdout).removesuffix("\n").rsplit("\n", 2)
        where = Path(top).resolve()
        prefix, objects = folder.resolve().relative_to(where), (folder / common).resolve()
        return cls(where, prefix, shallow == "true", objects, without_filters([where]))

    def commit(self, name: str) -> Commit:
        """The commit that a reference names. Raises `UserError` for one that is not there."""
        ended = self._ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        if name and not name.startswith("-") and ended.returncode == 0:
            return Commit(os.fsdecode(ended.stdout).strip(), name)
        if self._ask("rev-parse", "--verify", "--quiet", "HEAD").returncode:
            raise UserError(
                "the repository has no commit yet", "commit once, so that there is something to compare with"
            )
        if self.shallow:
            raise UserError(f"git reference '{name}' is not in this shallow clone", _DEPTH)
        known = self._lines("for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags", "refs/remotes")
        raise UnknownName("git reference", name, [*known, "HEAD"])

    def merge_base(self, one: Commit, other: Commit) -> Commit:
        """Where two histories part. Raises `UserError` where they share none."""
        found = self._lines("merge-base", one.oid, other.oid)
        if found:
            return Commit(found[0], f"the merge base with {one.told}")
        hint = _DEPTH if self.shallow else "name the commit to compare with"
        raise UserError(f"{one.told} and {other.told} have no merge base in this clone", hint)

    def sides(self, said: str | None) -> tuple[Commit, Commit | None]:
        """The old side and the new one, which is None for the working tree: of `A`, `A..B`, `A...B`, or of nothing."""
        if said is None:
            return self._default(), None
        for dots in ("...", ".."):
            old, found, new = said.partition(dots)
            if found:
                one, other = self.commit(old or "HEAD"), self.commit(new or "HEAD")
                return (self.merge_base(one, other) if dots == "..." else one), other
        return self.commit(said), None

    def differing(self, commit: Commit, alone: bool = False) -> dict[str, Blob | None]:
        """Path from the top -> what the commit has there, for every tracked path that the working tree has otherwise.

        None where it has nothing. With `alone`, the working tree itself is the other side, so that changes inside of a
        submodule that are not committed there count. Raises `UserError` where git fails.
        """
        inside = list(self._index.submodules()) if alone else []
        words = ("diff", "--raw", "-z", "--no-abbrev", "--no-renames")
        looked = ("--ignore-submodules=untracked", commit.oid, "--")
        ended = ask(self.top, *words, *looked, more=without_filters([self.top, *inside])) if inside else None
        if ended is None or ended.returncode:  # git may not look into a submodule: of another owner, or broken
            ended = self._ask(*words, "--ignore-submodules=dirty", commit.oid, "--")
        told = self._checked("diff", ended)
        fields = os.fsdecode(told).split("\0")
        found: dict[str, Blob | None] = {}
        unmerged = []
        for entry, path in zip(fields[::2], fields[1::2], strict=False):
            mode, new_mode, oid, _, status = entry.lstrip(":").split(" ")
            if status == "U":
                unmerged.append(path)
            elif mode == _ABSENT:
                found.setdefault(path, None)
            elif mode != new_mode and {mode, new_mode} <= {"100644", "100755"} and self._same(path, oid):
                continue  # only the right to run it
            else:
                found[path] = Blob(mode, oid)
        for path in unmerged:
            found[path] = self._entry(commit, path)
        return {**self._index.unwatched(), **found}

    def untracked(self) -> list[str]:
        """Files that git neither tracks nor ignores, from the top."""
        told = os.fsdecode(self._must("ls-files", "-z", "--full-name", "--others", "--exclude-standard"))
        return [name.removesuffix("/") for name in told.split("\0") if name]

    def write(self, files: Mapping[Path, str]) -> None:
        """Write blobs: the file of each -> its name. Raises `UserError` where this clone lacks one."""
        if not files:
            return
        with tempfile.TemporaryFile() as asked:  # as a pipe it could be full while the answers wait
            asked.write("".join(f"{oid}\n" for oid in files.values()).encode())
            asked.seek(0)
            with begun(self.top, "cat-file", "--batch", "--buffer", asked=asked) as git:
                assert git.stdout
                for place, oid in files.items():
                    told = git.stdout.readline().split()
                    if len(told) != 3:
                        raise UserError(f"git: the object {oid} is not in this clone", _DEPTH)
                    with open(place, "wb") as file:
                        left = int(told[2])
                        while left:
                            part = git.stdout.read(min(left, CHUNK))
                            if not part:
                                raise UserError(f"git: the object {oid} cannot be read", "git fsck says more")
                            file.write(part)
                            left -= len(part)
                    git.stdout.read(1)

    def links(self, differing: Iterable[str]) -> dict[str, str]:
        """The links of the working tree that git tracks, and those at paths that differ: path -> target."""
        tracked = [path for path, entry in self._index.entries.items() if entry.blob.mode == LINK]
        paths = [*tracked, *differing]
        return {path: os.readlink(self.top / path) for path in paths if (self.top / path).is_symlink()}

    def inside(self, path: str, target: str) -> str | None:
        """Where a link leads to, from the top; None where that is out of the repository."""
        place = os.path.normpath(self.top / os.path.dirname(path) / target)
        if not Path(place).is_relative_to(self.top):
            place = os.path.realpath(place)  # the repository may be known by another name
        return os.path.relpath(place, self.top) if Path(place).is_relative_to(self.top) else None

    def target(self, link: Blob) -> str:
        """Where a link of a commit leads to."""
        return os.fsdecode(self._must("cat-file", "blob", link.oid))

    def holds(self, commit: Commit, *paths: str) -> bool:
        """Whether a commit has something at one of these paths, which are from the folder of the command."""
        places = [os.path.normpath(self.prefix / path) for path in paths]
        return bool(self._must("ls-tree", "-z", "--full-tree", commit.oid, "--", *places))

    def projects(self) -> list[str]:
        """The folders with recipes, from the folder of the command."""
        words = ("ls-files", "-z", "--full-name", "--cached", "--others", "--exclude-standard")
        told = os.fsdecode(self._must(*words, "--", ":(top,glob)**/recipes/*.yaml")).split("\0")
        found = sorted({Path(path).parents[1] for path in told if path})
        return [os.path.relpath(folder, self.prefix) for folder in found]

    @cached_property
    def _index(self) -> Index:
        return Index(self.top, self.variables)

    def _default(self) -> Commit:
        """The merge base with the default branch, else with the branch's upstream, else HEAD."""
        head = self.commit("HEAD")
        here = self._lines("symbolic-ref", "--quiet", "--short", "HEAD")
        named = self._lines("symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD")
        branches = [*named, "origin/main", "origin/master", "main", "master"]
        for name in [branch for branch in branches if [branch] != here]:
            place = f"refs/heads/{name}" if name in ("main", "master") else f"refs/remotes/{name}"
            if base := self._base(place, head):
                return Commit(base, f"the merge base with {name}")
        if self.shallow:
            raise UserError("this is a shallow clone without the merge base with the default branch", _DEPTH)
        base = self._base("@{upstream}", head)
        return Commit(base, "the merge base with the branch's upstream") if base else head

    def _base(self, name: str, head: Commit) -> str:
        """The merge base with a branch; empty where there is none."""
        found = self._lines("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        return "".join(self._lines("merge-base", found[0], head.oid)[:1]) if found else ""

    def _same(self, path: str, oid: str) -> bool:
        """Whether the working tree has the bytes of a blob, line ends as git keeps them."""
        return self._lines("hash-object", f"--path={path}", "--", path) == [oid]

    def _entry(self, commit: Commit, path: str) -> Blob | None:
        words = os.fsdecode(self._must("ls-tree", "-z", "--full-tree", commit.oid, "--", path)).split()
        return Blob(words[0], words[2]) if words else None

    def _lines(self, *words: str) -> list[str]:
        """What git says; empty where it fails."""
        ended = self._ask(*words)
        return os.fsdecode(ended.stdout).split("\n")[:-1] if ended.returncode == 0 else []

    def _must(self, *words: str) -> bytes:
        return self._checked(words[0], self._ask(*words))

    def _checked(self, command: str, ended: Ended) -> bytes:
        """What git said. Raises `UserError` where it failed."""
        return checked(command, ended, _DEPTH) if self.shallow else checked(command, ended)

    def _ask(self, *words: str) -> Ended:
        return ask(self.top, *words, more=self.variables)


_DEPTH = "fetch the whole history: git fetch --unshallow, or fetch-depth: 0 of actions/checkout"
