"""The documented functions of a Python code base as training rows, made without a model.

Each function gives two real pairs: signature and docstring -> the function, and the function -> its docstring.
"""

import ast
import hashlib
import inspect
import textwrap
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from sft_runner.data.row import Row

LEAST_BODY_LINES = 3
"""Lines of body besides the docstring; shorter functions teach little but their own name."""
LEAST_DOCSTRING = 15
"""Characters of docstring; shorter ones do not say what to write."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def documented_functions(
    files: Sequence[Path], root: Path, counts: Counter[str], most_bytes: int | None = None
) -> Iterator[Row]:
    """Two rows for each documented function, in the order of files and lines.

    `counts` is told of `files`, of `files_not_parsed` and of `functions_repeated`, which stood elsewhere already.
    With `most_bytes` the files behind the first so many bytes are left out.
    """
    seen: set[bytes] = set()
    done = 0
    for path in files:
        if most_bytes and done > most_bytes:
            return
        name = path.relative_to(root).as_posix() if path != root else path.name
        counts["files"] += 1
        done += path.stat().st_size
        parsed = _parsed(path)
        if parsed is None:
            counts["files_not_parsed"] += 1
            continue
        tree, lines = parsed
        for function, qualified in _functions(tree, ""):
            pairs = _pairs(function, lines, f"`{qualified}` from `{name}`")
            if not pairs:
                continue
            digest = hashlib.sha256(pairs[0][1].encode()).digest()
            if digest in seen:
                counts["functions_repeated"] += 1
                continue
            seen.add(digest)
            for prompt, completion in pairs:
                yield Row(
                    {"prompt": prompt, "completion": completion},
                    name,
                    function.lineno,
                    group=f"{name}:{qualified}",  # one row of a function would give the other's answer away
                )


def _parsed(path: Path) -> tuple[ast.Module, list[str]] | None:
    """The syntax tree and the lines that its numbers count; None for a file that is not this Python's."""
    try:
        with tokenize.open(path) as file:  # heeds the coding line and a byte-order mark
            text = file.read()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the user's code, such as "\d" in a plain string
            return ast.parse(text), text.split("\n")
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[Function, str]]:
    """Functions and methods with their qualified names; those inside a function belong to it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield child, prefix + child.name
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.stmt | ast.ExceptHandler):
            yield from _functions(child, prefix)


def _pairs(function: Function, lines: Sequence[str], title: str) -> list[tuple[str, str]]:
    """The prompts and answers that one function gives; none where it says too little."""
    documentation = ast.get_docstring(function, clean=False)
    if documentation is None or len(function.body) < 2:
        return []
    docstring, body = function.body[0], function.body[1]
    first = min(node.lineno for node in (function, *function.decorator_list))
    start, end = docstring.lineno, docstring.end_lineno or docstring.lineno
    last = function.end_lineno or end
    whole_lines = not lines[start - 1][: docstring.col_offset].strip() and body.lineno > end
    documentation = inspect.cleandoc(documentation).strip()
    if last - body.lineno + 1 < LEAST_BODY_LINES or len(documentation) < LEAST_DOCSTRING or not whole_lines:
        return []
    code = _block(lines[first - 1 : last])
    head = _block(lines[first - 1 : end])
    bare = _block([*lines[first - 1 : start - 1], *lines[end:last]])
    return [
        (f"Implement {title}:\n\n{head}", code),
        (f"Write the docstring of {title}:\n\n{bare}", documentation),
    ]


def _block(lines: Sequence[str]) -> str:
    """Code without its indentation, fenced as chat models write it."""
    text = textwrap.dedent("\n".join(lines)).strip("\n")
    fence = "````" if "```" in text else "```"
    return f"{fence}python\n{text}\n{fence}"
