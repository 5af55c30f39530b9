"""Fill in the middle: some statements of a real function are taken out, and what stands around them is shown.

Around them is the function itself, the class lines above it and the file's imports: never another function, because
that one may be held out.
"""

import ast
from collections.abc import Iterator, Sequence

from sft_runner.data.code.module import Definition, Function, Module

LEAST_BODY_LINES = 4
"""Lines of a function from which on it can spare some."""
LEAST_LINES, MOST_LINES = 2, 12
"""Lines that are taken out."""
MOST_PREFIX = 4000
"""Characters before the hole; what is farther away is left out, whole lines at a time."""
MOST_SUFFIX = 2000
"""Characters behind the hole."""


def cut(module: Module, definition: Definition, number: int) -> dict[str, str] | None:
    """The texts `prefix`, `middle` and `suffix`; None for a function that is too short.

    `number` draws the hole among all runs of whole statements that could be one.
    """
    function = definition.node
    if not isinstance(function, Function):
        return None
    documented = ast.get_docstring(function, clean=False) is not None
    body = function.body[1:] if documented else function.body
    lines = definition.last - _span(body[0])[0] + 1 if body else 0
    if lines < LEAST_BODY_LINES:
        return None
    holes = [(first, last) for first, last in _runs(module, body) if last - first + 1 < lines]
    if not holes:
        return None
    first, last = holes[number % len(holes)]
    statements = (node for node in module.tree.body if isinstance(node, ast.Import | ast.ImportFrom))
    imports = [module.source(*_span(node)) for node in statements]
    around = [line for outer in definition.around for line in _head(module, outer)]
    within = module.source(definition.first, first - 1)
    before = "\n".join([*imports, *([""] if imports else []), *around, within])
    return {
        "prefix": _nearest(before, MOST_PREFIX) + "\n",
        "middle": module.source(first, last) + "\n",
        "suffix": _nearest(module.source(last + 1, definition.last)[::-1], MOST_SUFFIX)[::-1],
    }


def _runs(module: Module, block: Sequence[ast.stmt]) -> Iterator[tuple[int, int]]:
    """First and last line of all runs of statements in a block, and in the blocks below it, that are whole lines."""
    spans = [_span(statement) for statement in block]
    begins = [_begins_line(module, statement) for statement in block]
    ends = [*begins[1:], True]
    for index, (first, _) in enumerate(spans):
        near = slice(index, index + MOST_LINES)
        for (_, last), whole in zip(spans[near], ends[near], strict=True):
            if begins[index] and whole and LEAST_LINES <= last - first + 1 <= MOST_LINES:
                yield first, last
    for statement in block:
        for name in ("body", "orelse", "finalbody"):
            yield from _runs(module, getattr(statement, name, []))
        for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
            yield from _runs(module, part.body)


def _begins_line(module: Module, statement: ast.stmt) -> bool:
    """Whether nothing stands left of a statement, as in `if a: b` and `a = 1; b = 2`; columns count bytes."""
    return not module.lines[statement.lineno - 1].encode()[: statement.col_offset].strip()


def _span(statement: ast.stmt) -> tuple[int, int]:
    """First and last line, a decorator's included."""
    first = min(node.lineno for node in (statement, *getattr(statement, "decorator_list", ())))
    return first, statement.end_lineno or statement.lineno


def _head(module: Module, outer: ast.ClassDef) -> list[str]:
    """The lines of a class before its first statement, without comments."""
    lines = module.lines[_span(outer)[0] - 1 : _span(outer.body[0])[0] - 1]
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _nearest(text: str, most: int) -> str:
    """The whole lines at the end of a text that fit into so many characters."""
    return text if len(text) <= most else text[-most:].partition("\n")[2]
