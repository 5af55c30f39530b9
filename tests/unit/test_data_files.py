"""Which files count, their hash, the quick look at them, and their rows."""

import csv
import gzip
import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pace import in_loops
from sft_runner.config.schema import Data
from sft_runner.data.files import check, content_hash, count_rows, fetch, first_row, missing, read, source_files
from sft_runner.data.row import Row
from sft_runner.data.sources import sources_of
from sft_runner.errors import DataError, UserError

GOOD = '{"question": "q", "answer": "a"}'
SHARED = Path(__file__).parents[3] / "shared/data"


def rows(path: Path, counts: Counter[str] | None = None, **settings: Any) -> list[Row]:
    data = Data(path=str(path), **settings)
    return list(read(sources_of(data)[0], data, counts if counts is not None else Counter()))


def refused(path: object, format: str = "auto") -> str:
    with pytest.raises(DataError) as caught:
        check(Data(path=None if path is None else str(path), format=format))
    assert caught.value.exit_code == 2
    return caught.value.show()


def write(root: Path, *names: str) -> None:
    """Files of one good row, whatever they are called."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"[{GOOD}]" if name.endswith(".json") else GOOD)


def found(root: Path, format: str = "auto") -> list[str]:
    return [path.relative_to(root).as_posix() for path in source_files(Data(path=str(root), format=format))]


def test_a_path_that_leads_nowhere_is_named_with_the_closest_name_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl")
    assert "did you mean 'train.jsonl'?" in refused(tmp_path / "trian.jsonl")
    assert f"there is no folder {tmp_path / 'none'} either" in refused(tmp_path / "none" / "train.jsonl")
    assert refused(None).startswith("data.path: not set\n")
    assert "embedded data set 'date'" in refused("embedded:date")


@pytest.mark.parametrize(
    ("name", "format", "told"),
    [
        ("rows.xlsx", "auto", "'.xlsx'"),
        ("rows.parquet.gz", "auto", "'.gz'"),
        ("code.py", "qa", "take data=auto"),
        ("notes.md", "qa", "take data=auto"),
        ("rows.jsonl", "python", "'.jsonl'"),
        ("notes.md", "python", "'.md'"),
        ("code.py", "docs", "'.py'"),
    ],
)
def test_only_known_suffixes_are_read(tmp_path: Path, name: str, format: str, told: str) -> None:
    write(tmp_path, name)
    assert told in refused(tmp_path / name, format)


def test_a_folder_of_rows_is_read_as_one(tmp_path: Path) -> None:
    write(tmp_path, "b/two.jsonl", "a.json", ".hidden.jsonl", ".git/x.jsonl", "README.md", "build/c.jsonl", "LICENSE")
    with open(tmp_path / "b" / "one.csv", "w", newline="") as file:
        csv.writer(file).writerows([["question", "answer"], ["q", "a"]])
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as packed:
        packed.write(GOOD)
    assert [row.source for row in rows(tmp_path)] == [
        "a.json:1",
        "b/one.csv:2",
        "b/two.jsonl:1",
        "build/c.jsonl:1",
        "c.jsonl.gz:1",
    ]
    check(Data(path=str(tmp_path)))
    assert len(rows(tmp_path, limit=2)) == 2


def test_an_error_in_a_folder_names_the_file_in_it(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", "sub/b.jsonl")
    (tmp_path / "sub" / "c.jsonl").write_text(f"{GOOD}\nwhat?")
    assert "data.path: sub/c.jsonl, line 2: not JSON" in refused(tmp_path)


def test_what_may_hold_rows_is_not_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", "b.jsonl.zst")
    assert "b.jsonl.zst" in refused(tmp_path)


def test_a_folder_without_a_known_file_says_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png", "LICENSE")
    said = refused(tmp_path)
    assert "found: 2 .png, 1 without suffix" in said
    write(tmp_path, "a.py")
    assert "take data=auto" in refused(tmp_path, "qa")
    assert "there is no document" in refused(tmp_path, "docs")
    write(tmp_path / "empty", ".hidden")
    assert "found: nothing" in refused(tmp_path / "empty")


def test_auto_takes_rows_before_documents_before_code(tmp_path: Path) -> None:
    write(tmp_path, "c.py")
    assert found(tmp_path) == ["c.py"]
    write(tmp_path, "b.md", "sub/B.MD")
    assert found(tmp_path) == ["b.md", "sub/B.MD"]
    write(tmp_path, "a.jsonl")
    assert found(tmp_path) == ["a.jsonl"]
    assert found(tmp_path, "docs") == ["b.md", "sub/B.MD"]
    assert found(tmp_path, "python") == ["c.py"]


def test_a_code_base_leaves_out_what_is_not_its_own_code(tmp_path: Path) -> None:
    wanted = ["a.py", "build_tools/b.py", "database/c.py", "sub/builders/d.py", "venv_notes/e.py"]
    others = [
        ".hidden.py",
        ".git/f.py",
        "build/g.py",
        "sub/dist/h.py",
        "node_modules/i/j.py",
        "sub/__pycache__/k.py",
        "site-packages/l.py",
        "env/m.py",
        "notes.txt",
    ]
    write(tmp_path, *wanted, *others, "env/pyvenv.cfg")
    (tmp_path / "nowhere.py").symlink_to(tmp_path / "gone.py")
    assert found(tmp_path, "python") == wanted


def test_documents_in_build_folders_are_documents(tmp_path: Path) -> None:
    write(
        tmp_path, "build/a.md", "dist/b.md", "node_modules/c.md", "lib/site-packages/d.md", "env/e.md", "env/pyvenv.cfg"
    )
    assert found(tmp_path, "docs") == ["build/a.md", "dist/b.md"]


def test_lines_are_also_called_ndjson(tmp_path: Path) -> None:
    (tmp_path / "rows.ndjson").write_text(f"{GOOD}\n{GOOD}\n")
    with gzip.open(tmp_path / "rows.ndjson.gz", "wt") as packed:
        packed.write(GOOD)
    assert [row.source for row in rows(tmp_path)] == ["rows.ndjson:1", "rows.ndjson:2", "rows.ndjson.gz:1"]
    data = Data(path=str(tmp_path / "rows.ndjson"))
    assert count_rows(sources_of(data)[0], data) in (2, 3)


def test_a_build_folder_that_is_named_itself_is_read(tmp_path: Path) -> None:
    write(tmp_path, "build/a.py")
    assert found(tmp_path / "build", "python") == ["a.py"]


@pytest.mark.parametrize(("name", "text"), [("a.jsonl", ""), ("a.jsonl", "\n \n"), ("a.json", ""), ("a.json", "[ ]")])
def test_a_file_without_rows_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert "is empty" in refused(tmp_path / name)


def test_why_nothing_came_of_files_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    assert "nothing to learn from: 1 files\n  code needs docstrings" in refused(tmp_path)
    (tmp_path / "a.md").write_text("# Title\n\nshort\n")
    assert "1 sections too short\n  a section needs data.documents.least_chars" in refused(tmp_path)
    (tmp_path / "a.jsonl").write_text("what?\n")
    with pytest.raises(DataError, match=r"no row of .* can be read: 1 malformed"):
        check(Data(path=str(tmp_path), bad_rows="drop"))


def test_what_is_neither_a_file_nor_a_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    assert "is neither a file nor a folder" in refused(tmp_path / "rows.jsonl")
    assert "/dev/null is neither a file nor a folder" in refused("/dev/null")


def test_a_row_of_another_shape_is_told_by_the_look_at_the_first_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(f'{GOOD}\n{{"question": "q", "answer": 3}}')
    assert "data.path: rows.jsonl, line 2: answer is a number" in refused(tmp_path / "rows.jsonl")


def test_bad_rows_are_passed_over_where_the_user_says_so(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(f"{GOOD}\nwhat?\n\n{GOOD}")
    counts: Counter[str] = Counter()
    assert [row.number for row in rows(tmp_path / "rows.jsonl", counts, bad_rows="drop")] == [1, 4]
    assert counts == {"malformed": 1, "blank_lines": 1}


def test_the_first_places_of_what_is_passed_over_are_told(tmp_path: Path) -> None:
    def places(path: Path, **settings: Any) -> dict[str, list[str]]:
        data, found = Data(path=str(path), bad_rows="drop", **settings), dict[str, list[str]]()
        list(read(sources_of(data)[0], data, Counter(), places=found))
        return found

    write(tmp_path / "rows", "a.jsonl")
    (tmp_path / "rows" / "b.jsonl").write_text(f"what?\n{GOOD}\n\n{GOOD}\n1\n2\n3\n")
    assert places(tmp_path / "rows") == {
        "malformed": ["b.jsonl:1", "b.jsonl:5", "b.jsonl:6"],
        "blank_lines": ["b.jsonl:3"],
    }
    (tmp_path / "rows.json").write_text(f"\ufeff[{GOOD},\n3]")
    assert places(tmp_path / "rows.json") == {"byte_order_marks": ["rows.json:1"], "malformed": ["rows.json:2"]}
    (tmp_path / "rows.csv").write_text("a,b\n\n1,2\n3\n")
    assert places(tmp_path / "rows.csv") == {"blank_lines": ["rows.csv:2"], "malformed": ["rows.csv:4"]}
    write(tmp_path / "docs", "sub/a.docx", "b.pdf", "c.md", "d.png")
    assert places(tmp_path / "docs") == {"files_skipped": ["sub/a.docx"], "files_unreadable": ["b.pdf"]}
    (tmp_path / "a.py").write_text("def")
    assert places(tmp_path / "a.py") == {"files_not_parsed": ["a.py"]}


def test_rows_of_another_shape_are_no_error_where_the_user_says_so(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(f'{GOOD}\n{{"question": "q", "answer": 3}}\n{{"text": "t"}}')
    with pytest.raises(DataError):
        check(Data(path=str(tmp_path)))
    check(Data(path=str(tmp_path), bad_rows="drop"))
    (tmp_path / "rows.jsonl").write_text(f'{GOOD}\n{{"text": "t"}}')
    check(Data(path=str(tmp_path), mixed=True))


def test_the_format_is_told_by_the_first_row_that_one_recognises(tmp_path: Path) -> None:
    def told(**settings: Any) -> int | None:
        data = Data(path=str(tmp_path / "rows.jsonl"), **settings)
        row = first_row(sources_of(data)[0], data, Counter())
        return row and row.number

    (tmp_path / "rows.jsonl").write_text(f'{{"junk": 1}}\nwhat?\n{{"question": "q"}}\n{GOOD}\n')
    assert told() == 1
    assert told(bad_rows="drop") == 4
    assert "no format has these columns" in refused(tmp_path / "rows.jsonl")
    check(Data(path=str(tmp_path / "rows.jsonl"), bad_rows="drop"))
    (tmp_path / "rows.jsonl").write_text('{"junk": 1}\n{"question": "q"}\n')
    assert told(bad_rows="drop") == 1
    with pytest.raises(DataError, match="line 1: no format has these columns"):
        check(Data(path=str(tmp_path / "rows.jsonl"), bad_rows="drop"))
    (tmp_path / "rows.jsonl").write_text("")
    assert told(bad_rows="drop") is None


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.jsonl.gz"])
def test_the_look_at_a_large_file_reads_little_of_it(tmp_path: Path, name: str) -> None:
    row = {"question": "q" * 500, "answer": "a" * 500}
    lines = [json.dumps(row)] * 60_000  # 60 MB
    if name.endswith(".csv"):
        lines = ["question,answer", *(",".join(row.values()) for _ in lines)]
    text = f"[{','.join(lines)}]" if name.endswith(".json") else "\n".join(lines)
    with gzip.open(tmp_path / name, "wt", 1) if name.endswith(".gz") else open(tmp_path / name, "w") as file:
        file.write(text)
    assert in_loops(lambda: check(Data(path=str(tmp_path / name)))) < 5


def test_a_limit_takes_the_first_rows_and_looks_no_further(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(f"{GOOD}\n{GOOD}\n{GOOD}\n")
    assert [row.number for row in rows(tmp_path / "rows.jsonl", limit=2)] == [1, 2]
    assert len(rows(tmp_path / "rows.jsonl", limit=9)) == 3
    (tmp_path / "rows.jsonl").write_text(f"{GOOD}\n{GOOD}\nnot json\n")
    assert len(rows(tmp_path / "rows.jsonl", limit=2)) == 2


def test_rows_are_counted_where_that_is_quick(tmp_path: Path) -> None:
    def counted(name: str, **settings: Any) -> int | None:
        data = Data(path=str(tmp_path / name), **settings)
        return count_rows(sources_of(data)[0], data)

    for text in (f"{GOOD}\n{GOOD}", f"{GOOD}\n{GOOD}\n"):
        (tmp_path / "rows.jsonl").write_text(text)
        assert counted("rows.jsonl") in (2, 3)
    assert counted("rows.jsonl", limit=1) == 1
    (tmp_path / "rows.json").write_text("[]")
    assert counted("rows.json") is None
    assert counted("rows.json", limit=7) == 7


def test_the_hash_follows_bytes_and_names_but_not_the_place(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write(tmp_path / folder, "a.jsonl", "sub/b.jsonl")

    def hashed(path: str, **settings: Any) -> str:
        return content_hash(Data(path=str(tmp_path / path), **settings))

    assert hashed("one") == hashed("two")
    (tmp_path / "two" / "a.jsonl").rename(tmp_path / "two" / "c.jsonl")
    assert hashed("one") != hashed("two")
    assert hashed("one/a.jsonl") == hashed("two/c.jsonl")
    (tmp_path / "two" / "c.jsonl").write_text(GOOD + "\n")
    assert hashed("one/a.jsonl") != hashed("two/c.jsonl")
    (tmp_path / "own.jinja").write_text("{{ messages }}")
    with_template = hashed("one", template=str(tmp_path / "own.jinja"))
    assert with_template != hashed("one")
    (tmp_path / "own.jinja").write_text("{{ messages[0] }}")
    assert with_template != hashed("one", template=str(tmp_path / "own.jinja"))
    assert source_files(Data(path=str(tmp_path / "one"), template=str(tmp_path / "own.jinja")))[-1].name == "own.jinja"


def test_the_hash_holds_the_names_that_questions_say(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write(tmp_path / folder, "a.md", "README.md", "a.py", "a.jsonl", "a.csv", "a.v2.jsonl")
        (tmp_path / folder / "same").mkdir()
        write(tmp_path / folder / "same", "a.md")

    def hashed(path: str, format: str = "auto") -> str:
        return content_hash(Data(path=str(tmp_path / path), format=format))

    (tmp_path / "two" / "b.md").write_text(GOOD)
    (tmp_path / "two" / "b.py").write_text(GOOD)
    assert hashed("one/a.md") != hashed("two/b.md")
    assert hashed("one/a.py") != hashed("two/b.py")
    assert hashed("one/a.py") == hashed("two/a.py")
    assert hashed("one/README.md") != hashed("two/README.md"), "its folder is the title"
    assert hashed("one/same", "docs") == hashed("two/same", "docs")
    (tmp_path / "two" / "same").rename(tmp_path / "two" / "other")
    assert hashed("one/same", "docs") != hashed("two/other", "docs")
    assert hashed("one/a.jsonl") == hashed("one/a.v2.jsonl")
    assert hashed("one/a.jsonl") != hashed("one/a.csv")


def test_a_name_that_is_not_utf8_is_shown_and_hashed(tmp_path: Path) -> None:
    for suffix, text in ((b".jsonl", GOOD), (b".md", "# Head\n\n" + "Some words. " * 9), (b".py", "x = 1")):
        folder = tmp_path / suffix.decode()[1:]
        folder.mkdir()
        Path(os.fsdecode(bytes(folder) + b"/\xff" + suffix)).write_text(text)
    for folder in (tmp_path / "jsonl", tmp_path / "md"):
        data = Data(path=str(folder), held_out=0)
        assert len(content_hash(data)) == 64
        assert {row.file for row in rows(folder, held_out=0)} == {f"\\xff.{folder.name}"}
        check(data)
    assert "nothing to learn from" in refused(tmp_path / "py")


def test_the_hash_of_sources_tells_them_apart(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl")
    (tmp_path / "b.jsonl").write_text(f"{GOOD}\n{GOOD}")

    def hashed(first: str, second: str) -> str:
        return content_hash(Data(sources={"x": {"path": str(tmp_path / first)}, "y": {"path": str(tmp_path / second)}}))

    assert hashed("a.jsonl", "b.jsonl") != hashed("b.jsonl", "a.jsonl")


def test_the_hash_takes_hashes_that_are_remembered(tmp_path: Path) -> None:
    from sft_runner.fingerprint import Hashes

    write(tmp_path, "a.jsonl", "b.jsonl.gz")
    data = Data(path=str(tmp_path))
    assert content_hash(data) == content_hash(data, Hashes(tmp_path / ".hashes").of)
    asked: list[Path] = []
    content_hash(data, lambda path: str(asked.append(path)))
    assert asked == source_files(data)


def test_a_file_is_hashed_as_it_is(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "rows.jsonl.gz", "wt") as packed:
        packed.write(GOOD)
    seen: list[str] = []
    content_hash(Data(path=str(tmp_path / "rows.jsonl.gz")), lambda path: seen.append(path.name) or "")  # type: ignore[func-returns-value]
    assert seen == ["rows.jsonl.gz"]
    from sft_runner.data.files import file_hash

    packed_bytes = (tmp_path / "rows.jsonl.gz").read_bytes()
    assert file_hash(tmp_path / "rows.jsonl.gz") == hashlib.sha256(packed_bytes).hexdigest()


def test_a_template_that_is_not_there_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl")
    with pytest.raises(UserError, match=r"data\.template: there is no file own\.jinja"):
        source_files(Data(path=str(tmp_path), template="own.jinja"))


def test_nothing_is_missing_of_what_is_on_this_machine(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl")
    assert missing(Data(path=str(tmp_path))) == []
    fetch(Data(path=str(tmp_path)))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    (tmp_path / name).chmod(0)
    assert "cannot be read" in refused(tmp_path / name)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data")
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("gsm8k_train.jsonl", 7473),
        ("gsm8k_test.jsonl", 1319),
        ("alpaca_en_demo.json", 999),
        ("identity.json", 91),
        ("glaive_toolcall_en_demo.json", 300),
        ("c4_demo.jsonl", 300),
        ("dpo_en_demo.json", 300),
    ],
)
def test_real_files_are_read_to_the_row(name: str, count: int) -> None:
    counts: Counter[str] = Counter()
    assert len(rows(SHARED / name, counts)) == count
    assert not counts
    check(Data(path=str(SHARED / name)))
