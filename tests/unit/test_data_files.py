"""Which files `data.path` means, and what is said about files that cannot be used."""

import hashlib
import json
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from sft_runner.config.schema import Data
from sft_runner.data import json_list
from sft_runner.data.files import check, content_hash, count_rows, read, source_files
from sft_runner.data.row import Row
from sft_runner.errors import DataError

GOOD = '{"question": "q", "answer": "a"}'


def rows(path: Path, **settings: object) -> list[Row]:
    return list(read(Data(path=str(path), **settings), Counter()))


def refused(path: object, format: str = "auto") -> str:
    with pytest.raises(DataError) as caught:
        check(Data(path=None if path is None else str(path), format=format))
    assert caught.value.exit_code == 2
    return caught.value.show()


def test_a_path_that_leads_nowhere_is_named_with_the_closest_name_beside_it(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(GOOD)
    assert "did you mean 'train.jsonl'?" in refused(tmp_path / "trian.jsonl")
    assert f"there is no folder {tmp_path / 'none'} either" in refused(tmp_path / "none" / "train.jsonl")
    assert refused(None).startswith("data.path: not set\n")
    assert "embedded data set 'date'" in refused("embedded:date")


@pytest.mark.parametrize(
    ("name", "format", "told"),
    [
        ("rows.csv", "auto", "'.csv'"),
        ("rows.jsonl.gz", "auto", "'.gz'"),
        ("code.py", "auto", "take data=python"),
        ("rows.jsonl", "python", "'.jsonl'"),
    ],
)
def test_only_known_suffixes_are_read(tmp_path: Path, name: str, format: str, told: str) -> None:
    (tmp_path / name).write_text(GOOD)
    assert told in refused(tmp_path / name, format)


def test_a_folder_is_for_python_code(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path)
    assert "no Python file" in refused(tmp_path, "python")


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
    for name in [*wanted, *others, "env/pyvenv.cfg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = source_files(Data(path=str(tmp_path), format="python"))
    assert [path.relative_to(tmp_path).as_posix() for path in found] == wanted


def test_a_build_folder_that_is_named_itself_is_read(tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "a.py").touch()
    assert len(source_files(Data(path=str(tmp_path / "build"), format="python"))) == 1


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_lines_are_counted_with_the_blank_ones(tmp_path: Path, ending: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + ending.join([GOOD, "", "  ", '{"question": "ü", "answer": "a"}']).encode())
    counts: Counter[str] = Counter()
    found = list(read(Data(path=str(file)), counts))
    assert [row.source for row in found] == ["rows.jsonl:1", "rows.jsonl:4"]
    assert found[1].values["question"] == "ü"
    assert counts == {"blank_lines": 2}


def test_a_list_gives_the_same_rows_as_lines(tmp_path: Path) -> None:
    values = [{"question": f"q{i}\n€", "answer": {"deep": [i, -1.5e3, None]}} for i in range(50)]
    for indent in (None, 2):
        (tmp_path / "rows.json").write_text("\ufeff" + json.dumps(values, indent=indent), encoding="utf-8")
        found = rows(tmp_path / "rows.json")
        assert [row.values for row in found] == values
        assert [row.source for row in found] == [f"rows.json:{i}" for i in range(1, 51)]


def test_a_list_is_read_the_same_wherever_its_chunks_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [{"a": 'x\\"[]{},€\n', "b": 12345, "c": [True, None]}, {"a": "", "b": -1e-5, "c": []}]
    (tmp_path / "rows.json").write_text(json.dumps(values, indent=1, ensure_ascii=False), encoding="utf-8")
    for size in range(1, 60):
        monkeypatch.setattr(json_list, "CHUNK_BYTES", size)
        assert [row.values for row in rows(tmp_path / "rows.json")] == values


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("not json", "line 7: not JSON: Expecting value at column 1"),
        ('{"question": "q", "answer": "a",}', "line 7: not JSON"),
        ('["q", "a"]', "line 7: not a JSON object"),
        ("[" * 100_000, "line 7: not readable as JSON"),
        ('{"question": "q", "answer": ' + "9" * 5000 + "}", "line 7: not readable as JSON"),
        ('{"question": "q", "answer": 3}', "line 7: answer is a number, not text"),
        ('{"question": "q", "answer": "\\ud83d"}', "line 7: answer has half a character at position 0"),
        ('{"question": "q", "answer": null}', "line 7: answer is null"),
        ('{"question": "q", "reply": "a"}', "line 7: answer is missing; qa needs question + answer"),
        ('{"messages": [{"role": "user", "content": "q"}]}', "the row looks like chat"),
    ],
)
def test_what_is_wrong_on_line_7_is_said_of_line_7(tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join([GOOD] * 6 + [line, GOOD]))
    said = refused(tmp_path / "rows.jsonl")
    assert said.startswith("data.path: rows.jsonl, line 7: ")
    assert told in said


def test_bytes_that_are_not_utf8_are_placed(tmp_path: Path) -> None:
    text = f"{GOOD}\n" * 3 + '{"question": "'
    (tmp_path / "rows.jsonl").write_bytes(text.encode() + b'\xff"}\n')
    assert "line 4: not UTF-8 at byte 15" in refused(tmp_path / "rows.jsonl")
    (tmp_path / "rows.json").write_bytes(f"[\n{GOOD},\n".encode() * 1 + b'{"question": "\xff"}]')
    assert "line 3: not UTF-8" in refused(tmp_path / "rows.json")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"[{GOOD},\n{GOOD},\n]", "row 2: line 3: a comma without a row behind it"),
        (f"[{GOOD}\n{GOOD}]", "row 1: line 2: expected ',' or ']'"),
        (f"[{GOOD},\n3]", "row 2: line 2: not a JSON object"),
        (f'[{GOOD},\n{{"question": q}}]', "row 2: line 2: not JSON: Expecting value"),
        (f"[{GOOD},\n" + GOOD[:-4], "row 2: line 2: the file ends in the middle"),
        (f"[{GOOD}", "row 1: line 1: the file ends in the middle"),
        (f"[{GOOD},", "row 2: line 1: the file ends in the middle"),
        (f"[{GOOD}]\n[]", "row 1: line 2: text behind the end"),
        (f"{GOOD}\n{GOOD}", "name a file with one object a line .jsonl"),
        ("hello", "line 1: not a JSON list"),
    ],
)
def test_what_is_wrong_in_a_list_is_placed_by_row_and_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "rows.json").write_text(text)
    assert told in refused(tmp_path / "rows.json")


@pytest.mark.parametrize(("name", "text"), [("a.jsonl", ""), ("a.jsonl", "\n \n"), ("a.json", ""), ("a.json", "[ ]")])
def test_a_file_without_rows_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert "is empty" in refused(tmp_path / name)


def test_a_list_in_a_file_of_lines_is_explained(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(f"[\n{GOOD}\n]")
    assert "rename a file that is one JSON list to .json" in refused(tmp_path / "rows.jsonl")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_the_check_of_a_large_file_is_fast(tmp_path: Path, name: str) -> None:
    row = json.dumps({"question": "q" * 500, "answer": "a" * 500})
    lines = [row] * 60_000  # 60 MB
    (tmp_path / name).write_text("\n".join(lines) if name.endswith("l") else f"[{','.join(lines)}]")
    fastest = min(_seconds_to_check(tmp_path / name) for _ in range(3))
    assert fastest < 0.15


def _seconds_to_check(path: Path) -> float:
    began = time.perf_counter()
    check(Data(path=str(path)))
    return time.perf_counter() - began


def test_a_limit_takes_the_first_rows_and_looks_no_further(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(f"{GOOD}\n{GOOD}\n{GOOD}\n")
    assert [row.number for row in rows(tmp_path / "rows.jsonl", limit=2)] == [1, 2]
    assert len(rows(tmp_path / "rows.jsonl", limit=9)) == 3
    (tmp_path / "rows.jsonl").write_text(f"{GOOD}\n{GOOD}\nnot json\n")
    assert len(rows(tmp_path / "rows.jsonl", limit=2)) == 2


def test_rows_are_counted_where_that_is_quick(tmp_path: Path) -> None:
    for text in (f"{GOOD}\n{GOOD}", f"{GOOD}\n{GOOD}\n"):
        (tmp_path / "rows.jsonl").write_text(text)
        assert count_rows(Data(path=str(tmp_path / "rows.jsonl"))) in (2, 3)
    assert count_rows(Data(path=str(tmp_path / "rows.jsonl"), limit=1)) == 1
    (tmp_path / "rows.json").write_text("[]")
    assert count_rows(Data(path=str(tmp_path / "rows.json"))) is None


def test_the_hash_follows_bytes_and_names_but_not_the_place(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in "ab":
            (tmp_path / folder / f"{name}.py").write_text(name)
    one, two = ([tmp_path / folder / f"{name}.py" for name in "ab"] for folder in ("one", "two"))
    assert content_hash(one) == content_hash(two)
    assert content_hash(one[:1]) == hashlib.sha256(b"a").hexdigest()
    two[1].write_text("c")
    assert content_hash(one) != content_hash(two)


def test_the_hash_is_the_one_that_the_fingerprint_takes(tmp_path: Path) -> None:
    from sft_runner.fingerprint import Hashes

    files = [tmp_path / "a.py", tmp_path / "b.py"]
    for file in files:
        file.write_text(file.name)
    hashes = Hashes(tmp_path / "hashes.json")
    assert content_hash(files) == hashes.together(files)
    assert content_hash(files[:1]) == hashes.together(files[:1])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(GOOD)
    (tmp_path / "rows.jsonl").chmod(0)
    assert "cannot be read" in refused(tmp_path / "rows.jsonl")
