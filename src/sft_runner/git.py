"""What git is run with: it is to find the repository around a folder, whatever started this program."""

import os

COMMAND = ("git", "--no-optional-locks", "-c", "core.fsmonitor=false")
"""Takes no lock, and starts no program to watch files."""
LOCAL = frozenset(
    (
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_DIR",
        "GIT_GRAFT_FILE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_INTERNAL_SUPER_PREFIX",
        "GIT_NAMESPACE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_SHALLOW_FILE",
        "GIT_WORK_TREE",
    )
)
"""Variables of `git rev-parse --local-env-vars` that lead to one repository. Git sets them for its hooks, for
`rebase --exec` and for aliases, and with them takes any folder for the top of the tree."""


def environment() -> dict[str, str]:
    """The variables of this program without those that lead to one repository."""
    return {name: value for name, value in os.environ.items() if name not in LOCAL}
