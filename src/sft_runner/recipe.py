"""The recipe that a run is made from: its text as it was composed, and the commit around it."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sft_runner import git
from sft_runner.config import sources
from sft_runner.masking import masked

FILE = "recipe.yaml"
"""Its text in the run folder."""
SECONDS = 3.0
"""How long git may take to answer; a run does not wait for more."""


def keep(choices: Mapping[str, str], folder: Path) -> dict[str, Any] | None:
    """Write the recipe's text into a run folder, secrets of addresses masked; returns what `run.json` says of it.

    That is `file` as the user would type it, `commit` of the git repository around it, else around the working
    directory (None without one), and whether something there is `changed` since. None for a run without a recipe.
    """
    recipe = sources.recipes().get(choices.get("recipe", ""))
    if recipe is None:
        return None
    (folder / FILE).write_bytes(masked(recipe.text).encode())
    commit, changed = _commit(recipe.path)
    return {"file": sources.shown(recipe.path), "commit": commit, "changed": changed}


def _commit(recipe: Path) -> tuple[str | None, bool]:
    """The commit of a repository, and whether its files or the recipe are not as they are there."""
    if not recipe.is_relative_to(sources.PACKAGE):  # one that came with the package is of no repository of the user's
        commit, changed = _state(recipe.parent)
        if commit:
            return commit, changed or _git(recipe.parent, "ls-files", "--error-unmatch", "--", recipe.name) is None
    return _state(Path.cwd())


def _state(folder: Path) -> tuple[str | None, bool]:
    """The commit that a folder's repository stands at, and whether tracked files are not as they are there."""
    told = _git(folder, "status", "--porcelain=v2", "--branch", "--untracked-files=no") or ""
    lines = told.splitlines()
    commits = (line.removeprefix("# branch.oid ") for line in lines if line.startswith("# branch.oid "))
    commit = next((commit for commit in commits if commit != "(initial)"), None)
    return commit, commit is not None and any(not line.startswith("#") for line in lines)


def _git(folder: Path, *words: str) -> str | None:
    """What git says; None where it fails, is not there, or takes too long. It starts no program and takes no lock."""
    try:
        ended = subprocess.run(
            [*git.COMMAND, *words],
            cwd=folder,
            env=git.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ended.stdout.decode(errors="replace") if ended.returncode == 0 else None
