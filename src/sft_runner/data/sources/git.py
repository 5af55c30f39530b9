"""Git repositories at a pinned commit, fetched once into a cache of our own, without history and as plain files.

Nothing of the repository runs: no hooks, no submodules, no filters, no links that lead out of it.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from sft_runner import git
from sft_runner.errors import DataError, MachineError

FORM = "git+https://HOST/OWNER/REPOSITORY@COMMIT#subdirectory=DIR"
ADDRESS = re.compile(
    r"git\+(?P<url>(?P<scheme>https|ssh|file)://(?P<place>[^\s#?]+))@(?P<revision>[^@/#\s]+)(?:#(?P<more>\S*))?"
)
SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.symlinks": "false",  # a link becomes a small text file, so none leads to files of this machine
    "core.autocrlf": "false",
    "fetch.recurseSubmodules": "false",
    "submodule.recurse": "false",
    "filter.lfs.process": "",
    "filter.lfs.smudge": "",
    "filter.lfs.required": "false",
    "http.lowSpeedLimit": "1000",  # bytes a second, below which a transfer counts as dead after
    "http.lowSpeedTime": "60",  # so many seconds
}
ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_TEMPLATE_DIR": "",  # a template may bring hooks
    "LC_ALL": "C",  # messages in one language
}


@dataclass(frozen=True)
class GitAddress:
    """`git+https://HOST/OWNER/REPO@COMMIT[#subdirectory=DIR]`, as pip writes it; also `git+ssh` and `git+file`."""

    url: str
    """What git fetches from."""
    commit: str
    """Forty hexadecimal digits."""
    subdirectory: str
    """The only folder that is fetched; empty for all."""

    @classmethod
    def parsed(cls, address: str) -> "GitAddress":
        """Raises `DataError` for anything that is not of the form, or carries a password."""
        match = ADDRESS.fullmatch(address)
        if not match:
            problem, hint = "is no address of a git repository", f"write {FORM}"
            if re.fullmatch(r"git\+(https|ssh|file)://[^\s#]+(#\S*)?", address):
                problem, hint = "names no commit", f"pin one, so that the data stays what it is: {FORM}"
            raise DataError(f"data.path: {address} {problem}", hint)
        scheme, place, revision = match["scheme"], match["place"], match["revision"]
        user = place.rpartition("@")[0] if "@" in place.split("/")[0] else ""
        if user and (scheme != "ssh" or ":" in user):
            hint = "take git+ssh, or a credential helper of git, and change the password that stood here"
            raise DataError("data.path: a git address must not carry a user or a password", hint)
        if place.startswith("-") or (scheme == "file" and not place.startswith("/")):
            raise DataError(f"data.path: {address} is no address of a git repository", f"write {FORM}")
        if not re.fullmatch(r"[0-9a-f]{40}", revision):
            hint = f"git ls-remote {match['url']} {revision}   shows the commit"
            raise DataError(f"data.path: {revision!r} is not a commit of 40 hexadecimal digits", hint)
        return cls(match["url"], revision, _subdirectory(match["more"] or ""))

    @property
    def name(self) -> str:
        """The name of the folder, or of the repository."""
        return PurePosixPath(self.subdirectory or self.url.removesuffix(".git")).name

    def place(self) -> Path | None:
        """The folder in the cache, if it was fetched."""
        folder = self._folder()
        return folder / self.subdirectory if folder.is_dir() else None

    def fetch(self) -> None:
        """Fetch the folder as of the commit. Raises `MachineError` where that fails.

        It is made aside and renamed, one process at a time, so that a killed fetch leaves nothing that counts.
        """
        from filelock import FileLock

        folder = self._folder()
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_suffix(".lock")):
                if folder.is_dir():
                    return
                aside = folder.with_suffix(".partial")
                shutil.rmtree(aside, ignore_errors=True)
                self._check_out(aside)
                shutil.rmtree(aside / ".git")
                os.replace(aside, folder)
        except OSError as error:
            raise MachineError(f"data.path: {self.url} cannot be fetched: {error}", "is git installed?") from error

    def chosen(self, names: Sequence[str]) -> Sequence[str]:
        """All files of the folder are meant."""
        return names

    def _folder(self) -> Path:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        digest = hashlib.sha256("\0".join((self.url, self.commit, self.subdirectory)).encode()).hexdigest()
        return cache / "sft_runner" / "git" / digest[:32]

    def _check_out(self, folder: Path) -> None:
        """The files of the commit in a new folder, with no more of the repository than they need."""
        folder.mkdir()
        self._git(folder, "init", "--quiet", "--template=")
        self._git(folder, "remote", "add", "origin", self.url)
        if self.subdirectory:
            self._git(folder, "sparse-checkout", "set", "--cone", "--stdin", said=f"{self.subdirectory}\n")
        self._git(folder, "fetch", "--quiet", "--depth=1", "--no-tags", "--filter=blob:none", "origin", self.commit)
        self._git(folder, "checkout", "--quiet", "--detach", self.commit)
        if not (folder / self.subdirectory).is_dir():
            raise DataError(
                f"data.path: there is no folder {self.subdirectory} in {self.url} at {self.commit[:12]}",
                "name a folder below the repository's own: #subdirectory=DIR",
            )

    def _git(self, folder: Path, *words: str, said: str = "") -> None:
        settings = [word for key, value in SETTINGS.items() for word in ("-c", f"{key}={value}")]
        environment = git.environment() | ENVIRONMENT
        environment["GIT_ALLOW_PROTOCOL"] = self.url.partition("://")[0]
        environment.setdefault("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
        ended = subprocess.run(
            ["git", *settings, "-C", str(folder), *words],
            input=said,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if ended.returncode:
            told = next((line for line in ended.stderr.splitlines() if line.startswith("fatal:")), ended.stderr.strip())
            raise MachineError(
                f"data.path: {self.url} at {self.commit[:12]} cannot be fetched: {told.removeprefix('fatal: ')}",
                "fetch it where there is a network, and give the folder with data.path=DIR",
            )


def _subdirectory(fragment: str) -> str:
    """The folder that `subdirectory=DIR` names."""
    if not fragment:
        return ""
    key, _, value = fragment.partition("=")
    folder = unquote(value).strip("/")
    parts = PurePosixPath(folder).parts
    plain = not any(part in ("..", ".git") for part in parts) and folder.isprintable() and '"' not in folder
    if key != "subdirectory" or not parts or not plain:
        raise DataError(f"data.path: '#{fragment}' names no folder of a git repository", f"write {FORM}")
    return PurePosixPath(folder).as_posix()
