"""A Python code base as training rows, made without a model: only what somebody wrote is asked for.

| asked | answer | group |
|---|---|---|
| signature and docstring | the function | the function |
| function | its docstring | the function |
| function with a hole (`prefix`, `suffix`) | what was there (`middle`) | the function |
| class and the names of its methods | its docstring | the class |
| path and the names in the file | the module's docstring | the module |

Rows of one group are held out together, for one would give the other's answer away.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from sft_runner.config.schema import Data
from sft_runner.data.code import hole, pairs
from sft_runner.data.code.module import Definition, Function, Module
from sft_runner.data.code.pairs import LEAST_BODY_LINES, LEAST_DOCSTRING
from sft_runner.data.readers.faults import Faults
from sft_runner.data.row import Row
from sft_runner.data.sources.naming import name_below

__all__ = ["LEAST_BODY_LINES", "LEAST_DOCSTRING", "SUFFIXES", "rows"]

SUFFIXES = (".py",)


def rows(files: Sequence[Path], root: Path, data: Data, faults: Faults, most_bytes: int | None = None) -> Iterator[Row]:
    """The rows of each file: of the module, then of its functions and classes by line.

    Values are `prompt` and `completion`, or `prefix`, `middle` and `suffix`. `faults.counts` is told of `files`, of
    `files_not_parsed`, and of `functions_repeated` and `docstrings_repeated`, which stood elsewhere already. With
    `most_bytes` the files behind the first so many bytes are left out.
    """
    counts = faults.counts
    seen = _Seen(counts)
    done = 0
    for path in files:
        if most_bytes is not None and done > most_bytes:
            return
        done += path.stat().st_size
        counts["files"] += 1
        name = name_below(root, path)
        module = Module.read(path, name)
        if module is None:
            faults.note("files_not_parsed", name)
            continue
        yield from _rows(module, data.seed, seen)


class _Seen:
    """What earlier rows said, so that nothing is learned twice and no prompt has two answers."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts, self._texts = counts, set[bytes]()

    def new(self, kind: str, *texts: str) -> bool:
        """Whether none of the texts stood in an earlier row; told to `counts` where one did."""
        digests = {hashlib.sha256(text.encode(errors="replace")).digest() for text in texts}
        if digests & self._texts:
            self._counts[f"{kind}_repeated"] += 1
            return False
        self._texts |= digests
        return True


def _rows(module: Module, seed: int, seen: _Seen) -> Iterator[Row]:
    for prompt, completion in pairs.of_module(module):
        if seen.new("docstrings", prompt, completion):
            yield _pair(module, 1, "", prompt, completion)
    for definition in module.definitions():
        line, name = definition.node.lineno, definition.name
        if isinstance(definition.node, Function):
            yield from _function_rows(module, definition, seed, seen)
            continue
        for prompt, completion in pairs.of_class(module, definition):
            if seen.new("docstrings", prompt, completion):
                yield _pair(module, line, name, prompt, completion)


def _function_rows(module: Module, definition: Definition, seed: int, seen: _Seen) -> Iterator[Row]:
    """Nothing for a function that gives no row, or whose code or prompt stood elsewhere."""
    line, name = definition.node.lineno, definition.name
    found = pairs.of_function(module, definition)
    draw = hashlib.sha256(f"{seed}\0{module.file}\0{name}".encode(errors="replace")).digest()
    fill = hole.cut(module, definition, int.from_bytes(draw[:8]))
    if not found and not fill:
        return
    code = module.source(definition.first, definition.last)
    if not seen.new("functions", code, *(prompt for prompt, _ in found)):
        return
    for prompt, completion in found:
        yield _pair(module, line, name, prompt, completion)
    if fill:
        yield Row(dict(fill), module.file, line, group=f"{module.file}:{name}")


def _pair(module: Module, line: int, name: str, prompt: str, completion: str) -> Row:
    values = {"prompt": prompt, "completion": completion}
    return Row(values, module.file, line, group=f"{module.file}:{name}")
