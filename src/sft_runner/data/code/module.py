"""A Python file as its parts: functions, classes, imports, and the lines that they stand in."""

import ast
import textwrap
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = Function | ast.ClassDef | ast.Module


@dataclass(frozen=True)
class Definition:
    """A function or a class in its file."""

    node: Function | ast.ClassDef
    """Its syntax tree."""
    name: str
    """With the classes around it: `Shelf.longest`."""
    around: tuple[ast.ClassDef, ...]
    """The classes that it stands in, the outermost first."""

    @property
    def first(self) -> int:
        """Its first line, which may be a decorator's."""
        return min(node.lineno for node in (self.node, *self.node.decorator_list))

    @property
    def last(self) -> int:
        """Its last line."""
        return self.node.end_lineno or self.node.lineno


@dataclass(frozen=True)
class Module:
    """A file that this Python can parse."""

    file: str
    """Its path below the code base."""
    tree: ast.Module
    """Its syntax tree."""
    lines: list[str]
    """Line 1 at index 0."""

    @classmethod
    def read(cls, path: Path, file: str) -> "Module | None":
        """The file; None for one that is not this Python's."""
        try:
            with tokenize.open(path) as opened:  # heeds the coding line and a byte-order mark
                text = opened.read()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about the user's code, such as "\d" in a plain string
                return cls(file, ast.parse(text), text.split("\n"))
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            return None

    def definitions(self) -> Iterator[Definition]:
        """Functions, methods and classes in the order of their lines; those inside a function belong to it."""
        return _definitions(self.tree, ())

    def source(self, first: int, last: int) -> str:
        """The lines from `first` to `last`, counted from 1, as they stand."""
        return "\n".join(self.lines[first - 1 : last])

    def title(self, name: str) -> str:
        """How a part of this file is named in a prompt."""
        return f"`{name}` from `{self.file}`"


def public_names(node: ast.Module | ast.ClassDef) -> list[str]:
    """The functions and classes that a module or a class defines for others, in order, each once."""
    names = (child.name for child in node.body if isinstance(child, Function | ast.ClassDef))
    return list(dict.fromkeys(name for name in names if not name.startswith("_")))


def fenced(code: str) -> str:
    """Code without its indentation, fenced as chat models write it."""
    text = textwrap.dedent(code).strip("\n")
    fence = "````" if "```" in text else "```"
    return f"{fence}python\n{text}\n{fence}"


def _definitions(node: ast.AST, around: tuple[ast.ClassDef, ...]) -> Iterator[Definition]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef):
            yield Definition(child, ".".join([*(outer.name for outer in around), child.name]), around)
        if isinstance(child, ast.ClassDef):
            yield from _definitions(child, (*around, child))
        elif isinstance(child, ast.stmt | ast.ExceptHandler) and not isinstance(child, Function):
            yield from _definitions(child, around)
