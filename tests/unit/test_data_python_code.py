"""Documented functions become real pairs: code and docstrings that somebody wrote, never a filler."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from conftest import ROOT
from sft_runner.config.schema import Data
from sft_runner.data.files import check, source_files
from sft_runner.data.python_code import documented_functions
from sft_runner.data.row import Row
from sft_runner.errors import DataError

CODE = '''\
import os


class Shelf:
    """A shelf of books."""

    @property
    def longest(self) -> str:
        """The longest title on the shelf.

            Ties go to the first.
        """
        titles = self.titles
        order = sorted(titles, key=len)
        return order[-1]


def undocumented(a):
    b = a
    c = b
    return c


def short(a):
    """Returns what it is given, always."""
    return a


def terse(a):
    """Adds."""
    b = a + 1
    c = b + 1
    return c


def stub(a):
    """Promises a lot and does nothing."""


def one_line(a): "A docstring beside the name."; b = a; return b


if os.name == "posix":

    async def fetch(url: str) -> bytes:  # a comment
        """Fetch the page behind an address."""
        # another comment
        def inner() -> bytes:
            """A function inside a function is part of it."""
            first = b"1"
            second = b"2"
            return first + second

        return inner()
'''


def found(root: Path) -> tuple[list[Row], Counter[str]]:
    counts: Counter[str] = Counter()
    files = source_files(Data(path=str(root), format="python"))
    return list(documented_functions(files, root, counts)), counts


def test_each_documented_function_gives_two_pairs(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "shelf.py").write_text(CODE)
    rows, counts = found(tmp_path)
    assert counts == {"files": 1}
    assert [row.source for row in rows] == ["sub/shelf.py:8"] * 2 + ["sub/shelf.py:45"] * 2
    assert rows[0].values == {
        "prompt": "Implement `Shelf.longest` from `sub/shelf.py`:\n\n```python\n@property\ndef longest(self) -> str:\n"
        '    """The longest title on the shelf.\n\n        Ties go to the first.\n    """\n```',
        "completion": "```python\n@property\ndef longest(self) -> str:\n"
        '    """The longest title on the shelf.\n\n        Ties go to the first.\n    """\n'
        "    titles = self.titles\n    order = sorted(titles, key=len)\n    return order[-1]\n```",
    }
    assert rows[1].values == {
        "prompt": "Write the docstring of `Shelf.longest` from `sub/shelf.py`:\n\n```python\n@property\n"
        "def longest(self) -> str:\n    titles = self.titles\n    order = sorted(titles, key=len)\n"
        "    return order[-1]\n```",
        "completion": "The longest title on the shelf.\n\nTies go to the first.",
    }
    assert rows[2].values["prompt"].startswith("Implement `fetch` from `sub/shelf.py`:\n\n```python\nasync def fetch")
    assert rows[3].values["completion"] == "Fetch the page behind an address."
    assert "# another comment" in rows[3].values["prompt"]


def test_the_rows_of_one_function_are_one_group(tmp_path: Path) -> None:
    (tmp_path / "shelf.py").write_text(CODE)
    rows, _ = found(tmp_path)
    assert [row.group for row in rows] == ["shelf.py:Shelf.longest"] * 2 + ["shelf.py:fetch"] * 2


def test_files_that_do_not_parse_are_counted(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    (tmp_path / "good.py").write_text(CODE.replace('"posix"', '"\\d"'))
    (tmp_path / "python2.py").write_text("print 'hello'\n")
    (tmp_path / "zero.py").write_bytes(b"a = 1\0\n")
    (tmp_path / "latin.py").write_bytes("name = 'ü'\n".encode("latin-1"))
    (tmp_path / "deep.py").write_text("a = " + "(" * 5000 + ")" * 5000)
    rows, counts = found(tmp_path)
    assert len(rows) == 4
    assert counts == {"files": 5, "files_not_parsed": 4}
    assert not recwarn


def test_a_coding_line_and_windows_line_ends_are_heeded(tmp_path: Path) -> None:
    code = "# coding: latin-1\n" + CODE.replace("longest title", "längster Titel")
    (tmp_path / "a.py").write_bytes(code.replace("\n", "\r\n").encode("latin-1"))
    rows, _ = found(tmp_path)
    assert rows[1].values["completion"].startswith("The längster Titel")
    assert "\r" not in rows[0].values["completion"]


def test_a_copied_function_is_taken_once(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(CODE)
    rows, counts = found(tmp_path)
    assert len(rows) == 4
    assert counts["functions_repeated"] == 2


def test_a_docstring_with_a_fence_gets_a_longer_one(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(CODE.replace("Ties go", "```\n        Ties go"))
    rows, _ = found(tmp_path)
    assert rows[0].values["completion"].startswith("````python\n")
    assert rows[0].values["completion"].endswith("\n````")


def test_a_code_base_without_documented_functions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def short(a):\n    return a\n")
    with pytest.raises(DataError, match="has no documented function to learn from"):
        check(Data(path=str(tmp_path), format="python"))


def test_this_project_gives_pairs_that_are_python() -> None:
    rows, counts = found(ROOT / "src")
    assert counts["files_not_parsed"] == 0
    assert len(rows) > 100
    for row in rows:
        assert all(value.strip() for value in row.values.values())
        if row.values["prompt"].startswith("Implement"):
            code = row.values["completion"].split("\n", 1)[1].rsplit("\n", 1)[0]
            function = ast.parse(code).body[0]
            assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
            assert ast.get_docstring(function)
