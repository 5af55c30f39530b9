"""Prompts and answers that are both in the code: what is asked for is what somebody wrote there."""

import ast
import inspect

from sft_runner.data.code.module import Definition, Documented, Function, Module, fenced, public_names

LEAST_BODY_LINES = 3
"""Lines of body besides the docstring; shorter functions teach little but their own name."""
LEAST_DOCSTRING = 15
"""Characters of docstring; shorter ones do not say what to write."""
MOST_NAMES = 20
"""Names that a prompt lists."""

Pair = tuple[str, str]
"""Prompt and answer."""


def of_function(module: Module, definition: Definition) -> list[Pair]:
    """Signature and docstring -> the function, and the function -> its docstring; none where it says too little."""
    function = definition.node
    text = _docstring(function)
    if not isinstance(function, Function) or not text or len(function.body) < 2:
        return []
    docstring, body = function.body[0], function.body[1]
    end = docstring.end_lineno or docstring.lineno
    before = module.lines[docstring.lineno - 1].encode()[: docstring.col_offset]
    whole_lines = not before.strip() and body.lineno > end
    if definition.last - body.lineno + 1 < LEAST_BODY_LINES or not whole_lines:
        return []
    title, first, last = module.title(definition.name), definition.first, definition.last
    bare = f"{module.source(first, docstring.lineno - 1)}\n{module.source(end + 1, last)}"
    return [
        (f"Implement {title}:\n\n{fenced(module.source(first, end))}", fenced(module.source(first, last))),
        (f"Write the docstring of {title}:\n\n{fenced(bare)}", text),
    ]


def of_class(module: Module, definition: Definition) -> list[Pair]:
    """The class and the names of its methods -> what its docstring says that it is for."""
    text = _docstring(definition.node)
    if not isinstance(definition.node, ast.ClassDef) or not text:
        return []
    title = module.title(definition.name)
    return [(f"What is the class {title} for?{_listed('It has', public_names(definition.node))}", text)]


def of_module(module: Module) -> list[Pair]:
    """The file's path and the names that it defines -> its purpose, as its docstring tells it."""
    text = _docstring(module.tree)
    if not text:
        return []
    return [(f"What is the purpose of `{module.file}`?{_listed('It defines', public_names(module.tree))}", text)]


def _docstring(node: Documented) -> str:
    """A docstring that says something, without its indentation; else empty."""
    text = inspect.cleandoc(ast.get_docstring(node, clean=False) or "").strip()
    return text if len(text) >= LEAST_DOCSTRING else ""


def _listed(verb: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f" {verb} {', '.join(f'`{name}`' for name in names[:MOST_NAMES])}{more}."
