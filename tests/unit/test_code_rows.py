"""Rows of a code base are code and docstrings that somebody wrote, never a filler."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from conftest import ROOT
from sft_runner.config.schema import Data
from sft_runner.data.code import rows
from sft_runner.data.files import check, source_files
from sft_runner.data.readers.faults import Faults
from sft_runner.data.row import Row
from sft_runner.errors import DataError

CODE = '''\
"""Shelves, and what stands on them."""

import os
from pathlib import (
    Path,
)


class Shelf(dict):
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


class _Private:
    x = 1
'''


def found(root: Path, **settings: object) -> tuple[list[Row], Counter[str]]:
    counts: Counter[str] = Counter()
    data = Data(path=str(root), format="python", **settings)  # type: ignore[arg-type]
    return list(rows(source_files(data), root, data, Faults(counts))), counts


def of(rows: list[Row], beginning: str) -> list[Row]:
    return [row for row in rows if row.values.get("prompt", "").startswith(beginning)]


def holes(rows: list[Row]) -> list[Row]:
    return [row for row in rows if "middle" in row.values]


@pytest.fixture
def shelf(tmp_path: Path) -> list[Row]:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "shelf.py").write_text(CODE)
    found_rows, counts = found(tmp_path)
    assert counts == {"files": 1}
    return found_rows


def test_signature_and_docstring_give_the_function(shelf: list[Row]) -> None:
    first, second = of(shelf, "Implement")
    head = "@property\ndef longest(self) -> str:\n"
    head += '    """The longest title on the shelf.\n\n        Ties go to the first.\n'
    assert first.source == "sub/shelf.py:13"
    assert first.values == {
        "prompt": f'Implement `Shelf.longest` from `sub/shelf.py`:\n\n```python\n{head}    """\n```',
        "completion": f'```python\n{head}    """\n    titles = self.titles\n    order = sorted(titles, key=len)\n'
        "    return order[-1]\n```",
    }
    assert second.values["prompt"].startswith("Implement `fetch` from `sub/shelf.py`:\n\n```python\nasync def fetch")


def test_a_function_gives_its_docstring(shelf: list[Row]) -> None:
    first, second = of(shelf, "Write the docstring")
    assert first.values == {
        "prompt": "Write the docstring of `Shelf.longest` from `sub/shelf.py`:\n\n```python\n@property\n"
        "def longest(self) -> str:\n    titles = self.titles\n    order = sorted(titles, key=len)\n"
        "    return order[-1]\n```",
        "completion": "The longest title on the shelf.\n\nTies go to the first.",
    }
    assert second.values["completion"] == "Fetch the page behind an address."
    assert "# another comment" in second.values["prompt"]


def test_what_a_file_and_a_class_are_for(shelf: list[Row]) -> None:
    (module,) = of(shelf, "What is the purpose")
    assert module.values == {
        "prompt": "What is the purpose of `sub/shelf.py`? "
        "It defines `Shelf`, `undocumented`, `short`, `terse`, `stub`, `one_line`.",
        "completion": "Shelves, and what stands on them.",
    }
    assert (module.source, module.group) == ("sub/shelf.py:1", "sub/shelf.py:")
    (about,) = of(shelf, "What is the class")
    assert about.values == {
        "prompt": "What is the class `Shelf` from `sub/shelf.py` for? It has `longest`.",
        "completion": "A shelf of books.",
    }
    assert (about.source, about.group) == ("sub/shelf.py:9", "sub/shelf.py:Shelf")


def test_rows_of_one_function_are_one_group(shelf: list[Row]) -> None:
    groups: dict[str, int] = Counter(row.group for row in shelf)
    assert groups == {
        "sub/shelf.py:": 1,
        "sub/shelf.py:Shelf": 1,
        "sub/shelf.py:Shelf.longest": 2,
        "sub/shelf.py:fetch": 3,
    }


FILLED = '''\
"""What the file is for stays unsaid."""
import os


class Box:
    """What the class is for too."""

    @staticmethod
    def fill(items):
        """Fill the box."""
        box = []
        for item in items:
            if item:
                box.append(item)
            elif item is None:
                continue
            else:
                raise ValueError(
                    item
                )
        box.sort()
        return box


def other():
    one = 1
    two = 2
    three = 3; four = 4
    if one: two = 3
    return one + two + three + four
'''


@pytest.mark.parametrize("seed", range(12))
def test_a_hole_is_whole_statements_of_one_function(tmp_path: Path, seed: int) -> None:
    (tmp_path / "box.py").write_text(FILLED)
    box, other = holes(found(tmp_path, seed=seed)[0])
    assert (box.group, other.group) == ("box.py:Box.fill", "box.py:other")
    for row in (box, other):
        values = row.values
        function = FILLED[FILLED.index(values["middle"]) :]
        assert function.removeprefix(values["middle"]).startswith(values["suffix"])
        assert 2 <= values["middle"].count("\n") <= 12
        code = values["prefix"] + values["middle"] + values["suffix"]
        ast.parse(code)
        assert code.startswith("import os\n\n")
        assert "unsaid" not in code
        assert "class is for" not in code
        assert "; four" not in values["middle"] or "three = 3; four" in values["middle"]
    assert box.values["prefix"].startswith("import os\n\nclass Box:\n    @staticmethod\n    def fill(items):\n")
    assert "other" not in "".join(box.values.values())
    assert "Box" not in "".join(other.values.values())


def test_another_seed_makes_other_holes_and_other_files_do_not(tmp_path: Path) -> None:
    (tmp_path / "box.py").write_text(FILLED)
    drawn = [tuple(row.values["middle"] for row in holes(found(tmp_path, seed=seed)[0])) for seed in range(12)]
    assert len(set(drawn)) > 3
    (tmp_path / "a.py").write_text(CODE)
    again = [row.values["middle"] for row in holes(found(tmp_path, seed=3)[0]) if row.file == "box.py"]
    assert tuple(again) == drawn[3]


def test_what_stands_around_a_hole_is_limited(tmp_path: Path) -> None:
    lines = "".join(f"    value_{number} = {number}\n" for number in range(2000))
    (tmp_path / "long.py").write_text(f"import os\n\ndef long():\n{lines}    return value_1\n")
    (row,) = holes(found(tmp_path)[0])
    assert len(row.values["prefix"]) <= 4001
    assert len(row.values["suffix"]) <= 2000
    code = "".join(row.values.values())
    assert set(lines.splitlines()) >= set(code.replace("    return value_1", "").splitlines()) - {""}


def test_files_that_do_not_parse_are_counted(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    (tmp_path / "good.py").write_text(CODE.replace('"posix"', '"\\d"'))
    (tmp_path / "python2.py").write_text("print 'hello'\n")
    (tmp_path / "zero.py").write_bytes(b"a = 1\0\n")
    (tmp_path / "latin.py").write_bytes("name = 'ü'\n".encode("latin-1"))
    (tmp_path / "deep.py").write_text("a = " + "(" * 5000 + ")" * 5000)
    made, counts = found(tmp_path)
    assert len(made) == 7
    assert counts == {"files": 5, "files_not_parsed": 4}
    assert not recwarn


def test_a_coding_line_and_windows_line_ends_are_heeded(tmp_path: Path) -> None:
    code = "# coding: latin-1\n" + CODE.replace("longest title", "längster Titel")
    (tmp_path / "a.py").write_bytes(code.replace("\n", "\r\n").encode("latin-1"))
    made, _ = found(tmp_path)
    assert of(made, "Write")[0].values["completion"].startswith("The längster Titel")
    assert not any("\r" in value for row in made for value in row.values.values())


def test_copies_are_taken_once(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(CODE)
    made, counts = found(tmp_path)
    assert len(made) == 7
    assert {row.file for row in made} == {"a.py"}
    assert counts == {"files": 2, "functions_repeated": 2, "docstrings_repeated": 2}


def test_no_prompt_has_two_answers(tmp_path: Path) -> None:
    body = 'def f(a):\n    """Do what is wanted."""\n    b = a\n    c = b\n    return {}\n'
    (tmp_path / "a.py").write_text(body.format("b") + "\n" + body.format("c"))
    made, counts = found(tmp_path)
    assert [row.number for row in of(made, "Implement")] == [1]
    assert counts["functions_repeated"] == 1


def test_a_docstring_with_a_fence_gets_a_longer_one(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(CODE.replace("Ties go", "```\n        Ties go"))
    answer = of(found(tmp_path)[0], "Implement")[0].values["completion"]
    assert answer.startswith("````python\n")
    assert answer.endswith("\n````")


def test_a_code_base_without_anything_to_learn_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def short(a):\n    return a\n")
    with pytest.raises(DataError, match="nothing to learn from"):
        check(Data(path=str(tmp_path), format="python"))


def test_a_quick_look_ends_early(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.py").write_text(CODE)
    counts: Counter[str] = Counter()
    list(rows(sorted(tmp_path.glob("*.py")), tmp_path, Data(), Faults(counts), most_bytes=len(CODE)))
    assert counts["files"] == 2


def test_this_project_gives_rows_that_are_python() -> None:
    made, counts = found(ROOT / "src")
    assert counts["files_not_parsed"] == 0
    prompts = [row.values["prompt"] for row in made if "prompt" in row.values]
    assert len(set(prompts)) == len(prompts) > 500
    assert all(row.values["completion"].strip() for row in made if "prompt" in row.values)
    for row in of(made, "Implement"):
        code = row.values["completion"].split("\n", 1)[1].rsplit("\n", 1)[0]
        function = ast.parse(code).body[0]
        assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        assert ast.get_docstring(function)
    assert len(holes(made)) > 200
    for row in holes(made):
        text = (ROOT / "src" / row.file).read_text()
        assert row.values["middle"] + row.values["suffix"] in text
        if len(row.values["prefix"]) < 3800 and len(row.values["suffix"]) < 1800:  # else cut, and no whole function
            ast.parse("".join(row.values[name] for name in ("prefix", "middle", "suffix")))
