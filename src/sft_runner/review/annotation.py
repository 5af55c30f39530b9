"""Workflow commands, which GitHub shows beside the lines of a pull request."""

from pathlib import Path

from sft_runner.config.sources import shown


def annotation(kind: str, path: Path, line: int, title: str, text: str, column: int | None = None) -> str:
    """One line on stdout: `kind` is `error`, `warning` or `notice`; `path` is absolute, `line` and `column` from 1."""
    named = {"file": in_repository(path), "line": line, "col": column, "title": title}
    properties = ",".join(f"{key}={_escaped(str(value), ':,')}" for key, value in named.items() if value is not None)
    return f"::{kind} {properties}::{_escaped(text)}"


def in_repository(path: Path) -> str:
    """The path from the root of the git repository around it, as GitHub wants it; without one as it is typed."""
    for above in path.parents:
        if (above / ".git").exists():  # a file in a work tree
            return path.relative_to(above).as_posix()
    return Path(shown(path)).as_posix()


def _escaped(words: str, more: str = "") -> str:
    """With `%`, line ends and, in properties, `:` and `,` as GitHub's workflow commands have them."""
    for sign in ("%", "\r", "\n", *more):
        words = words.replace(sign, f"%{ord(sign):02X}")
    return words
