"""What git knows of the two sides. It is only read: no branch, no worktree, no lock and no index is touched."""

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sft_runner.errors import UnknownName, UserError

LINK, SUBMODULE = "120000", "160000"
"""Modes of entries that are no files."""
_ABSENT = "000000"
_QUIET = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "LC_ALL": "C",  # messages are matched, and shown
}


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
class Blob:
    """What a commit has at a path."""

    mode: str
    """`100644`, `100755`, `120000` for a link, `160000` for a submodule."""
    oid: str
    """Name of its bytes."""


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

    @classmethod
    def around(cls, folder: Path) -> "Repository":
        """Raises `UserError` where there is no git or no repository."""
        words = ("rev-parse", "--show-toplevel", "--is-shallow-repository", "--git-common-dir")
        ended = _git(folder, *words)
        if ended.returncode:
            said = _said(ended)
            if "not a git repository" in said or "must be run in a work tree" in said:
                hint = "diff compares with a commit; run it in the folder of the project, after git init and a commit"
                raise UserError(f"there is no git repository around {folder}", hint)
            raise UserError(f"git: {said}", "git itself says why")
        top, shallow, common = os.fsdecode(ended.stdout).splitlines()
        where = Path(top).resolve()
        return cls(where, folder.resolve().relative_to(where), shallow == "true", (folder / common).resolve())

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

    def differing(self, commit: Commit) -> dict[str, Blob | None]:
        """Path from the top -> what the commit has there, for every tracked path that the working tree has otherwise.

        None where it has nothing. Raises `UserError` where git fails.
        """
        told = self._must(
            "diff", "--raw", "-z", "--no-abbrev", "--no-renames", "--ignore-submodules=dirty", commit.oid, "--"
        )
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
        return found

    def untracked(self, *folders: str) -> list[str]:
        """Files that git neither tracks nor ignores, from the top."""
        words = (
            "ls-files",
            "-z",
            "--full-name",
            "--others",
            "--exclude-standard",
            "--",
            *(f":(top,literal){name}" for name in folders),
        )
        return [name for name in os.fsdecode(self._must(*words)).split("\0") if name]

    def contents(self, blobs: Iterable[str]) -> Iterator[bytes]:
        """The bytes of each blob, one after the other."""
        with subprocess.Popen(
            _command("cat-file", "--batch"),
            cwd=self.top,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as git:
            assert git.stdin
            assert git.stdout
            for oid in blobs:
                git.stdin.write(f"{oid}\n".encode())
                git.stdin.flush()
                told = git.stdout.readline().split()
                if len(told) != 3:
                    raise UserError(f"git: the object {oid} is not in this clone", _DEPTH)
                yield git.stdout.read(int(told[2]))
                git.stdout.read(1)
            git.stdin.close()

    def sizes(self, blobs: Iterable[str]) -> dict[str, int]:
        """Blob -> its bytes; those that are not in this clone are left out."""
        asked = "".join(f"{oid}\n" for oid in blobs).encode()
        lines = os.fsdecode(self._must("cat-file", "--batch-check", input=asked)).splitlines()
        return {words[0]: int(words[2]) for words in map(str.split, lines) if len(words) == 3}

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
        return os.fsdecode(ended.stdout).splitlines() if ended.returncode == 0 else []

    def _must(self, *words: str, input: bytes = b"") -> bytes:
        ended = self._ask(*words, input=input)
        if ended.returncode:
            raise UserError(f"git {words[0]}: {_said(ended)}", _DEPTH if self.shallow else "git itself says why")
        return ended.stdout

    def _ask(self, *words: str, input: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        return _git(self.top, *words, input=input)


_DEPTH = "fetch the whole history: git fetch --unshallow, or fetch-depth: 0 of actions/checkout"


def _git(folder: Path, *words: str, input: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """Raises `UserError` where there is no git."""
    try:
        return subprocess.run(
            _command(*words), cwd=folder, env=_environment(), input=input, capture_output=True, check=False
        )
    except FileNotFoundError:
        raise UserError("git is not on this machine", "install git; diff compares with a commit") from None


def _command(*words: str) -> list[str]:
    return ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false", *words]


def _environment() -> Mapping[str, str]:
    return {**os.environ, **_QUIET}


def _said(ended: "subprocess.CompletedProcess[bytes]") -> str:
    """The first line of what git complains of."""
    lines = ended.stderr.decode(errors="replace").strip().splitlines()
    return (lines[0] if lines else f"exit code {ended.returncode}").removeprefix("fatal: ")
