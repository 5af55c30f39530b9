"""CSV and Parquet: the rows, and where it is said that something is wrong."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sft_runner.data.readers import csv_table, file
from sft_runner.data.readers.faults import Faults
from sft_runner.data.row import Row
from sft_runner.errors import DataError


def rows(path: Path, counts: Counter[str] | None = None, most_bytes: int | None = None) -> list[Row]:
    """Strictly, or with what is passed over in `counts`."""
    faults = Faults(counts if counts is not None else Counter(), counts is not None)
    return list(file.rows(path, path.name, faults, most_bytes))


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        rows(path)
    return caught.value.show()


def parquet(path: Path, columns: dict[str, Any], **settings: Any) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), path, **settings)
    return path


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_records_are_numbered_by_the_line_on_which_they_begin(
    tmp_path: Path, mark: str, separator: str, ending: str
) -> None:
    values = [["question", "answer"], ["ü", "a"], ["two\nlines", 'a "quote", and; more\t'], ["last", ""]]
    with open(tmp_path / "rows.csv", "w", encoding="utf-8", newline="") as target:
        target.write(mark)
        csv.writer(target, delimiter=separator, lineterminator=ending).writerows(values)
        target.write(ending)
    found = rows(tmp_path / "rows.csv")
    assert [row.values for row in found] == [
        {"question": "ü", "answer": "a"},
        {"question": "two\nlines", "answer": 'a "quote", and; more\t'},
        {"question": "last", "answer": None},
    ]
    assert [row.number for row in found] == [2, 3, 5]


def test_one_column_needs_no_separator(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text\nhello\n" + "x" * 500_000)
    assert [len(row.values["text"]) for row in rows(tmp_path / "rows.csv")] == [5, 500_000]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b\n1,2\n3\n", "line 3: 1 cell, the header has 2"),
        ('a,b\n"1\n1",2\n3,4,5\n', "line 4: 3 cells, the header has 2"),
        ("a,b\n1,2\n\n3,4\n", "line 3: a blank line"),
        ('a,b\n1,2\n3,"4\n5,6\n', "line 3: a double quote that is not closed"),
        ('a,b\n1,2\n3,"4"5\n', "line 3: not CSV"),
        ("a,b\n1,2\n3,\udcff\n", "line 3: not UTF-8 at byte 3"),
        ("a,b,a\n1,2,3\n", "line 1: the column 'a' stands twice in the header"),
        ("\na,b\n1,2\n", "line 1: a blank line"),
    ],
)
def test_what_is_wrong_in_a_record_is_said_of_its_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "rows.csv").write_text(text, errors="surrogateescape")
    said = refused(tmp_path / "rows.csv")
    assert said.startswith("data.path: rows.csv, ")
    assert told in said


def test_records_that_are_passed_over_are_counted(tmp_path: Path) -> None:
    text = 'a,b\n1,2\n3\n\n4,5,6\n7,\udcff\n"8"8,9\n10,11\n\n'
    (tmp_path / "rows.csv").write_text(text, errors="surrogateescape")
    counts: Counter[str] = Counter()
    assert [row.number for row in rows(tmp_path / "rows.csv", counts)] == [2, 8]
    assert counts == {"malformed": 4, "blank_lines": 1}


def test_a_quote_that_is_never_closed_does_not_hold_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_table, "LONGEST_CELL", 1000)
    (tmp_path / "rows.csv").write_text('a,b\n1,"2\n' + "3,4\n" * 1000)
    assert "line 2: a double quote that is not closed" in refused(tmp_path / "rows.csv")


@pytest.mark.parametrize(
    "text",
    [
        '"1,2\n' + "3,4\n" * 99,
        '"1,2\n' + '3,"4"\n' * 99,
        '1,"2\n3,\udcff\n4",5\n',
    ],
)
def test_a_quote_that_is_not_closed_is_always_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n0,0\n" + text, errors="surrogateescape")
    with pytest.raises(DataError, match="line [34]: (a double quote that is not closed|not CSV|not UTF-8)"):
        rows(tmp_path / "rows.csv", Counter())


@pytest.mark.parametrize("text", ["", "a,b\n"])
def test_a_file_without_records_has_no_rows(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.csv").write_text(text)
    assert not rows(tmp_path / "rows.csv")


def test_parquet_gives_python_values(tmp_path: Path) -> None:
    import pyarrow as pa

    messages = [[{"role": "user", "content": "ü"}, {"role": "assistant", "content": "a"}], None]
    columns = {"messages": messages, "extra": pa.array([[("k", "v")], []], pa.map_(pa.string(), pa.string()))}
    found = rows(parquet(tmp_path / "rows.parquet", columns))
    assert [row.values for row in found] == [
        {"messages": messages[0], "extra": {"k": "v"}},
        {"messages": None, "extra": {}},
    ]
    assert [(row.source, row.unit) for row in found] == [("rows.parquet:1", "row"), ("rows.parquet:2", "row")]


def test_parquet_is_read_in_pieces(tmp_path: Path) -> None:
    path = parquet(tmp_path / "rows.parquet", {"text": [f"{i:05}" * 2000 for i in range(5000)]})  # 50 MB
    some = rows(path, most_bytes=2 << 20)
    assert 200 < len(some) < 1000
    assert [row.number for row in some] == [*range(1, len(some) + 1)]
    assert file.count(path) == 5000


@pytest.mark.parametrize("cut", [0, 3, 100, -20])
def test_what_is_no_parquet_file_is_said(tmp_path: Path, cut: int) -> None:
    path = parquet(tmp_path / "rows.parquet", {"text": ["hello"] * 100})
    path.write_bytes(path.read_bytes()[:cut])
    assert refused(path).startswith("data.path: rows.parquet, row 1: not readable as Parquet: ")


def test_damage_inside_a_parquet_file_is_placed(tmp_path: Path) -> None:
    texts = [f"text {i * 7919}" for i in range(3000)]
    path = parquet(tmp_path / "rows.parquet", {"text": texts}, row_group_size=1000, use_dictionary=False)
    damaged = bytearray(path.read_bytes())
    middle = len(damaged) // 2
    damaged[middle - 2000 : middle + 2000] = b"\xff" * 4000
    path.write_bytes(damaged)
    said = refused(path)
    assert said.startswith("data.path: rows.parquet, row 1001: not readable as Parquet: ")


def test_text_in_parquet_that_is_not_utf8_is_placed(tmp_path: Path) -> None:
    import pyarrow as pa

    texts = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
    path = parquet(tmp_path / "rows.parquet", {"text": texts})
    assert "row 2: column 'text': text that is not UTF-8" in refused(path)
    counts: Counter[str] = Counter()
    assert [row.number for row in rows(path, counts)] == [1, 3]
    assert counts == {"malformed": 1}


@pytest.mark.parametrize(
    ("kind", "value"),
    [("timestamp[us]", 2**62), ("date32[day]", 2**30), ("duration[s]", 2**60)],
)
def test_a_time_that_python_does_not_have_is_placed(tmp_path: Path, kind: str, value: int) -> None:
    import pyarrow as pa

    times = pa.array([0, value, 0], "int32" if kind.startswith("date") else "int64").view(_type(kind))
    path = parquet(tmp_path / "rows.parquet", {"text": ["a", "b", "c"], "at": times})
    said = refused(path)
    assert said.startswith("data.path: rows.parquet, row 2: column 'at': a value that cannot be read: ")
    assert "write the file without this column" in said
    assert [row.number for row in rows(path, Counter())] == [1, 3]


def _type(kind: str) -> Any:
    import pyarrow as pa

    return {"timestamp[us]": pa.timestamp("us"), "date32[day]": pa.date32(), "duration[s]": pa.duration("s")}[kind]


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["x", "x"]), tmp_path / "rows.parquet")
    assert "the column 'x' stands twice" in refused(tmp_path / "rows.parquet")


def test_a_header_with_the_line_ends_of_old_machines_is_explained(tmp_path: Path) -> None:
    file = tmp_path / "old.csv"
    file.write_bytes(b"question,answer\rq0,a0\r")
    with pytest.raises(DataError, match=r"old\.csv, line 1"):
        rows(file)
