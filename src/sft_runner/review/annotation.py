"""Workflow commands, which GitHub shows beside the lines of a pull request."""

from pathlib import Path


def annotation(kind: str, path: Path, line: int, title: str, text: str, column: int | None = None) -> str:
    """One line on stdout: `kind` is `error`, `warning` or `notice`; `path` is absolute, `line` and `column` from 1.
    What lies outside of the repository has no line in a pull request: it becomes a notice that names the file."""
    file = in_repository(path)
    named: dict[str, str | int | None] = {"file": file, "line": line, "col": column, "title": title}
    if file is None:
        kind, text, named = "notice", f"{path}:{line}: {text}", {"title": title}
    properties = ",".join(f"{key}={_escaped(str(value), ':,')}" for key, value in named.items() if value is not None)
    return f"::{kind} {properties}::{_escaped(text)}"


def in_repository(path: Path) -> str | None:
    """The path from the root of the git repository around the working directory, as GitHub wants it, and from the
    working directory where there is none; None for a file outside of it."""
    here = Path.cwd()
    root = next((above for above in (here, *here.parents) if (above / ".git").exists()), here)  # a file in a work tree
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else None


def _escaped(words: str, more: str = "") -> str:
    """With `%`, line ends and, in properties, `:` and `,` as GitHub's workflow commands have them."""
    for sign in ("%", "\r", "\n", *more):
        words = words.replace(sign, f"%{ord(sign):02X}")
    return words
