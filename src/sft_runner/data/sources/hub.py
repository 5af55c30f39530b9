"""Data sets on the hub: found in its local cache without a network, fetched only when a run needs them.

Only data files are ever fetched or read. A data set's loading script is never run, nor even downloaded.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from sft_runner.data.readers.file import SUFFIXES
from sft_runner.errors import DataError, MachineError

FORM = "hf://datasets/OWNER/NAME@COMMIT/data/train-*.parquet"
SPLITS = re.compile(r"(?<![a-z0-9])(train|training|test|testing|validation|valid|val|dev|eval|evaluation)(?![a-z0-9])")
"""Words of a file's name that name a split, as the hub finds them."""
METADATA = ("dataset_infos.json", "dataset_dict.json")
"""Files with a data file's suffix that hold no rows."""
SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})(.*)")
"""A name that says of how many parts this is one."""


@dataclass(frozen=True)
class HubAddress:
    """`hf://datasets/OWNER/NAME@COMMIT[/GLOB]`."""

    repository: str
    """`OWNER/NAME`."""
    commit: str
    """Forty hexadecimal digits."""
    glob: str
    """Which files, with `*` also across folders; empty leaves it to `chosen`."""

    @classmethod
    def parsed(cls, address: str) -> "HubAddress":
        """Raises `DataError` for anything that is not of the form, or names a branch or tag, which may move."""
        match = re.fullmatch(r"hf://datasets/([\w.-]+/[\w.-]+)(?:@([^/]+))?(?:/(.+))?", address, re.ASCII)
        if not match or ".." in address:
            raise DataError(f"data.path: {address} is no address of a data set", f"write {FORM}")
        repository, revision, glob = match.groups(default="")
        revision = unquote(revision)
        if not revision:
            hint = f"pin a commit, so that the data stays what it is: hf://datasets/{repository}@COMMIT"
            raise DataError(f"data.path: {address} names no revision", hint)
        if not re.fullmatch(r"[0-9a-f]{40}", revision):
            commit = _known_commit(repository, revision) or "COMMIT"
            hint = f"pin it, so that the data stays what it is: hf://datasets/{repository}@{commit}"
            raise DataError(
                f"data.path: {revision!r} is not a commit of 40 hexadecimal digits", hint + (f"/{glob}" if glob else "")
            )
        return cls(repository, revision, glob)

    @property
    def name(self) -> str:
        """`NAME`."""
        return self.repository.split("/")[1]

    def place(self) -> Path | None:
        """The snapshot in the local cache, if all files that are meant are there."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError

        try:
            folder = snapshot_download(
                self.repository,
                repo_type="dataset",
                revision=self.commit,
                allow_patterns=self._patterns(),
                local_files_only=True,
            )
        except OSError:  # not there, or only some of it
            return None
        except HFValidationError as error:
            raise DataError(f"data.path: {self.repository}: {error}", f"write {FORM}") from None
        return Path(folder) if self._is_whole(Path(folder)) else None

    def fetch(self) -> None:
        """Download the data files into the hub's cache. Raises `MachineError` without a network."""
        from huggingface_hub import constants, snapshot_download

        try:
            if not constants.HF_HUB_OFFLINE:
                snapshot_download(
                    self.repository,
                    repo_type="dataset",
                    revision=self.commit,
                    allow_patterns=self._patterns(),
                )
        except Exception as error:  # the hub client raises its own, its HTTP library's and the system's
            raise self._missing() from error
        if self.place() is None:
            raise self._missing()

    def chosen(self, names: Sequence[str]) -> Sequence[str]:
        """The files that the glob takes; without one all, if they are one configuration and one split."""
        names = [name for name in names if PurePosixPath(name).name not in METADATA]
        if self.glob:
            found = [name for name in names if self._takes(name)]
            if names and not found:
                raise DataError(
                    f"data.path: no data file of {self.repository} is called {self.glob}", f"there are {_listed(names)}"
                )
            return found
        groups = sorted({_group(name) for name in names})
        if len(groups) > 1:
            start = f"hf://datasets/{self.repository}@{self.commit}"
            raise DataError(
                f"data.path: {self.repository} has several configurations or splits: {_listed(groups)}",
                f"say which, such as {start}/{groups[0]}; several make several entries of data.sources",
            )
        return names

    def _patterns(self) -> list[str]:
        """Globs over names below the snapshot that take nothing but data files."""
        if not self.glob:
            return [f"*{suffix}" for suffix in SUFFIXES]
        if self.glob.endswith(SUFFIXES):
            return [self.glob]
        folder = self.glob.rstrip("/")
        return [f"{start}{suffix}" for suffix in SUFFIXES for start in (f"{folder}/*", folder) if start[-1:] == "*"]

    def _is_whole(self, folder: Path) -> bool:
        """Whether all parts that are meant are there, of files that say of how many they are one."""
        for path in folder.rglob("*-of-*"):
            name = path.relative_to(folder).as_posix()
            shard = SHARD.fullmatch(name)
            if shard and self._takes(name):
                start, _, count, end = shard.groups()
                parts = (f"{start}-{part:05}-of-{count}{end}" for part in range(int(count)))
                if not all((folder / part).exists() for part in parts if self._takes(part)):
                    return False
        return True

    def _takes(self, name: str) -> bool:
        """Whether a file is one of those that the glob means."""
        return any(fnmatchcase(name, pattern) for pattern in self._patterns())

    def _missing(self) -> MachineError:
        from huggingface_hub import constants

        command = f"hf download --repo-type dataset {self.repository} --revision {self.commit}"
        return MachineError(
            f"data.path: the data set {self.repository}@{self.commit} is not, or not as a whole, in the hub cache "
            f"{constants.HF_HUB_CACHE}, and cannot be fetched",
            f"fetch it where there is a network ({command}), or give a local copy with data.path=DIR",
        )


def _known_commit(repository: str, revision: str) -> str:
    """The commit that the local cache knows a branch or tag by, or empty."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    if not re.fullmatch(r"\w[\w./-]*", revision, re.ASCII) or ".." in revision:
        return ""
    folder = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repository, repo_type="dataset"))
    try:
        return (folder / "refs" / revision).read_text().strip()
    except (OSError, ValueError):
        return ""


def _group(name: str) -> str:
    """The glob of all files that belong together with one: same folder, same split."""
    path = PurePosixPath(name)
    split = SPLITS.search(path.name.lower())
    if split is None:
        return (path.parent / "*").as_posix()
    before = "*" if split.start() else ""
    return (path.parent / f"{before}{path.name[split.start() : split.end()]}*").as_posix()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
