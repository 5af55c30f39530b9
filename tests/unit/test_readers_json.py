"""JSON lines and JSON lists: the rows, and where it is said that something is wrong."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from sft_runner.data.readers import file, json_list, lines
from sft_runner.data.readers.faults import Faults
from sft_runner.data.row import Row
from sft_runner.errors import DataError

GOOD = '{"question": "q", "answer": "a"}'
DEEP = "[" * 100_000


def rows(path: Path, counts: Counter[str] | None = None) -> list[Row]:
    """Strictly, or with what is passed over in `counts`."""
    return list(file.rows(path, path.name, Faults(counts if counts is not None else Counter(), counts is not None)))


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        rows(path)
    return caught.value.show()


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "ROWS.JSONL"])
def test_each_line_is_a_row(tmp_path: Path, ending: str, name: str) -> None:
    data = ending.join([GOOD, f" {GOOD} ", '{"question": "ü", "answer": "a"}', "", " "]).encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    found = rows(tmp_path / name)
    assert [row.source for row in found] == [f"{name}:{i}" for i in (1, 2, 3)]
    assert found[2].values["question"] == "ü"


def test_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    bad = ["", "not json", '{"a": 1, "a": 2}', '["a"]', "", GOOD, DEEP, '"\\ud83d"', ""]
    text = "\ufeff" + "\n".join([GOOD, *bad, GOOD, "", ""])
    (tmp_path / "rows.jsonl").write_bytes(text.encode() + b'\n"\xff"\n' + GOOD.encode())
    counts: Counter[str] = Counter()
    assert [row.number for row in rows(tmp_path / "rows.jsonl", counts)] == [1, 7, 11, 15]
    assert counts == {"byte_order_marks": 1, "blank_lines": 5, "malformed": 6}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("not json", "line 7: not JSON: Expecting value at column 1"),
        ('  {"a" 1}', "line 7: not JSON: Expecting ':' delimiter at column 8"),
        ('{"question": "q", "answer": "a",}', "line 7: not JSON: a comma with nothing behind it at column 33"),
        (GOOD + ",", "line 7: not JSON: text behind the object at column 33"),
        ('["q", "a"]', "line 7: not a JSON object"),
        ("null", "line 7: not a JSON object"),
        (DEEP, "line 7: not readable as JSON: nested too deeply"),
        ('{"answer": ' + DEEP, "line 7: not readable as JSON: nested too deeply"),
        ('{"answer": ' + "9" * 5000 + "}", "line 7: not readable as JSON"),
        ('{"answer": NaN}', "line 7: NaN is no JSON value"),
        ('{"a": "x", "b": {"c": 1, "c": 2}}', "line 7: 'c' stands twice in one object"),
        ("", "line 7: a blank line"),
        ("\t ", "line 7: a blank line"),
    ],
    ids=range(13),
)
def test_what_is_wrong_on_line_7_is_said_of_line_7(tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join([GOOD] * 6 + [line, GOOD]))
    said = refused(tmp_path / "rows.jsonl")
    assert said.startswith("data.path: rows.jsonl, line 7: ")
    assert told in said


def test_bytes_that_are_not_utf8_are_placed(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(f"{GOOD}\n".encode() * 3 + b'{"question": "\xff"}\n')
    assert "line 4: not UTF-8 at byte 15" in refused(tmp_path / "rows.jsonl")
    (tmp_path / "rows.json").write_bytes(f"[\n{GOOD},\n".encode() + b'{"question": "\xff"}]')
    assert "line 3: not UTF-8" in refused(tmp_path / "rows.json")
    (tmp_path / "rows.jsonl").write_bytes(GOOD.encode("utf-16"))
    assert "line 1: not UTF-8 at byte 1" in refused(tmp_path / "rows.jsonl")


@pytest.mark.parametrize(("name", "text"), [("rows.jsonl", GOOD), ("rows.json", f"[{GOOD}]")])
def test_a_byte_order_mark_is_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text("\ufeff" + text, encoding="utf-8")
    assert f"{name}, line 1: a byte-order mark" in refused(tmp_path / name)
    counts: Counter[str] = Counter()
    assert [row.values["answer"] for row in rows(tmp_path / name, counts)] == ["a"]
    assert counts == {"byte_order_marks": 1}


def test_a_line_that_is_too_long_is_never_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE", 1 << 20)
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{GOOD}\n{{"answer": "{"a" * (5 << 20)}"}}\n{GOOD}\n')
    assert "line 2: longer than 1 MiB" in refused(path)
    counts: Counter[str] = Counter()
    assert [row.number for row in rows(path, counts)] == [1, 3]
    assert counts == {"malformed": 1}
    with open(path, "rb") as opened:
        reading = lines.Lines(opened, "rows.jsonl")
        next(reading)
        with pytest.raises(DataError):
            next(reading)
        assert opened.tell() <= (1 << 20) + len(GOOD) + 2


def test_a_list_gives_the_same_rows_as_lines(tmp_path: Path) -> None:
    values = [{"question": f"q{i}\n€", "answer": {"deep": [i, -1.5e3, None]}} for i in range(50)]
    for indent in (None, 2):
        (tmp_path / "rows.json").write_text(json.dumps(values, indent=indent), encoding="utf-8")
        found = rows(tmp_path / "rows.json")
        assert [row.values for row in found] == values
        assert [(row.number, row.unit) for row in found] == [(i, "row") for i in range(1, 51)]


def test_a_list_is_read_the_same_wherever_its_chunks_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [{"a": 'x\\"[]{},€\n', "b": 12345, "c": [True, None]}, {"a": "", "b": -1e-5, "c": []}]
    text = json.dumps(values, indent=1, ensure_ascii=False)[:-1] + ',\n12345, {"a": 1, "a": 2}, {"b": 0}]'
    (tmp_path / "rows.json").write_text(text, encoding="utf-8")
    for size in range(1, 60):
        monkeypatch.setattr(json_list, "CHUNK_BYTES", size)
        counts: Counter[str] = Counter()
        assert [row.values for row in rows(tmp_path / "rows.json", counts)] == [*values, {"b": 0}]
        assert counts == {"malformed": 2}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"[{GOOD},\n{GOOD},\n]", "row 2: line 3: a comma without a row behind it"),
        (f"[{GOOD}\n{GOOD}]", "row 1: line 2: expected ',' or ']'"),
        (f"[{GOOD},\n3]", "row 2: line 2: not a JSON object"),
        (f"[{GOOD},\nnull]", "row 2: line 2: not a JSON object"),
        (f'[{GOOD},\n[["q", "a"]]]', "row 2: line 2: not a JSON object"),
        (f"[{GOOD},\n{DEEP}", "row 2: line 2: not readable as JSON: nested too deeply"),
        (f'[{GOOD},\n{{"a": 1, "a": 2}}]', "row 2: line 2: 'a' stands twice in one object"),
        (f'[{GOOD},\n{{"a": 1,}}, {GOOD}]', "row 2: line 2: not JSON: a comma with nothing behind it"),
        (f'[{GOOD},\n{{"question": q}}]', "row 2: line 2: not JSON: Expecting value"),
        (f"[{GOOD},\n" + GOOD[:-4], "row 2: line 2: the file ends in the middle"),
        (f"[{GOOD}", "row 1: line 1: the file ends in the middle"),
        (f"[{GOOD},", "row 2: line 1: the file ends in the middle"),
        (f"[{GOOD}]\n[]", "row 1: line 2: text behind the end"),
        (f"{GOOD}\n{GOOD}", "name a file with one object a line .jsonl"),
        (f'{{"data": [{GOOD}]}}', "not an object around it"),
        ("hello", "line 1: not a JSON list"),
    ],
    ids=range(16),
)
def test_what_is_wrong_in_a_list_is_placed_by_row_and_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "rows.json").write_text(text)
    assert told in refused(tmp_path / "rows.json")


def test_a_row_of_a_list_that_is_too_long_is_never_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_list, "LONGEST_ROW", 1 << 20)
    (tmp_path / "rows.json").write_text(f'[{GOOD}, {{"answer": "{"a" * (8 << 20)}"}}]')
    assert "row 2: line 1: longer than 1 MiB" in refused(tmp_path / "rows.json")


@pytest.mark.parametrize("text", [f"[\n{GOOD}\n]", f"[{GOOD}]"])
def test_a_list_in_a_file_of_lines_is_explained(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.jsonl").write_text(text)
    assert "rename a file that is one JSON list to .json" in refused(tmp_path / "rows.jsonl")


def test_an_object_over_several_lines_is_explained(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"a": 1}, indent=2))
    assert "write each object on one line" in refused(tmp_path / "rows.jsonl")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json.gz", "rows.csv", "rows.parquet"])
def test_a_pointer_to_the_data_is_not_the_data(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12\n")
    assert "1: a pointer of Git LFS" in refused(tmp_path / name)


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.json.gz", "rows.csv.gz"])
def test_a_gzip_file_that_is_cut_off_says_how_far_it_went(tmp_path: Path, name: str) -> None:
    text = {
        "rows.jsonl.gz": "".join(f'{{"answer": "{i * i * 7919}"}}\n' for i in range(20_000)),
        "rows.json.gz": json.dumps([{"answer": str(i * i * 7919)} for i in range(20_000)]),
        "rows.csv.gz": "answer\n" + "".join(f"{i * i * 7919}\n" for i in range(20_000)),
    }[name]
    whole = gzip.compress(text.encode())
    (tmp_path / name).write_bytes(whole)
    assert len(rows(tmp_path / name)) == 20_000
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    said = refused(tmp_path / name)
    assert "the gzip file is damaged or cut off" in said
    assert int(said.split("line " if "line " in said else "row ")[1].split(":")[0]) > 1000
    (tmp_path / name).write_text("plain")
    assert "1: not a gzip file" in refused(tmp_path / name)
