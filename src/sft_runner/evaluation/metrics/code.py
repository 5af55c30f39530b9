"""Whether an answer is Python that parses. It is read by `ast`, and never run."""

import ast
import textwrap
import warnings

from sft_runner.evaluation.metrics.fence import fences

_LANGUAGES = ("python", "py", "python3")


def parses(answer: str, expected: str) -> bool | None:
    """Whether the answer's code parses; None where the expected text is no code."""
    return _parses(answer) if _parses(expected) and _does_something(expected) else None


def _parses(text: str) -> bool:
    """Whether there is code, and all of it parses."""
    found = [_tree(block) for block in _blocks(text)]
    return bool(found) and all(tree is not None and tree.body for tree in found)


def _does_something(text: str) -> bool:
    """Whether there is a fence, a statement or a call: `yes` and `2024-10-12` parse too."""
    if fences(text, _LANGUAGES):
        return True
    trees = [tree for block in _blocks(text) if (tree := _tree(block))]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return any(
        isinstance(node, ast.Call) or (isinstance(node, ast.stmt) and not isinstance(node, ast.Expr)) for node in nodes
    )


def _blocks(text: str) -> list[str]:
    """The fences of Python; without any fence the whole text."""
    inside = fences(text, _LANGUAGES)
    return [block for block in ([text] if inside is None else inside) if block.strip()]


def _tree(text: str) -> ast.Module | None:
    """The code, or None where it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in texts
            return ast.parse(textwrap.dedent(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
