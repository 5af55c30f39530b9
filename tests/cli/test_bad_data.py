"""Data that cannot be used is told with its file and its line or row, and leaves nothing half-made behind."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command import Ended, sft
from sft_runner import load, plan
from sft_runner.data.files import CHECKED_BYTES
from sft_runner.launcher import Workers
from sft_runner.outcome import Outcome
from sft_runner.runner import execute

GOOD = {"question": "What is it?", "answer": "It is this."}
DEEP = "[" * 100_000


def lines(*rows: Any) -> bytes:
    """One row a line; a text or bytes stand as they are."""
    return b"\n".join(row if isinstance(row, bytes) else _text(row).encode() for row in rows) + b"\n"


def _text(row: Any) -> str:
    return row if isinstance(row, str) else json.dumps(row)


def turns(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": f"text {i}"} for i, role in enumerate(roles)]}


def parquet(**columns: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet as file

        file.write_table(pa.table(columns), path)

    return write


def a_line_of_200_mb(path: Path) -> None:
    with open(path, "wb") as file:
        file.write(lines(GOOD) + b'{"question": "q", "answer": "')
        for _ in range(200):
            file.write(b"a" * 1_000_000)
        file.write(b'"}\n')


def a_parquet_file_with_the_year_146138(path: Path) -> None:
    import pyarrow as pa

    parquet(question=["q"], answer=["a"], at=pa.array([2**62], pa.timestamp("us")))(path)


Content = bytes | Callable[[Path], None]
CASES: dict[str, tuple[str, Content, list[str]]] = {
    "not UTF-8": ("rows.jsonl", lines(GOOD, b'{"question": "\xff"}'), ["line 2", "not UTF-8"]),
    "UTF-16": ("rows.jsonl", "\ufeffx".encode("utf-16-le"), ["line 1", "not UTF-8"]),
    "a byte-order mark": (
        "rows.jsonl",
        b"\xef\xbb\xbf" + lines(GOOD),
        ["line 1", "byte-order mark", "data.bad_rows=drop"],
    ),
    "a byte-order mark before a list": ("rows.json", b"\xef\xbb\xbf[]", ["line 1", "byte-order mark"]),
    "a blank line": ("rows.jsonl", lines(GOOD, "", GOOD), ["line 2", "blank line"]),
    "a trailing comma in a row": ("rows.jsonl", lines(GOOD, '{"question": "q", "answer": "a",}'), ["line 2", "comma"]),
    "a trailing comma behind a row": (
        "rows.jsonl",
        lines(GOOD, _text(GOOD) + ","),
        ["line 2", "text behind the object"],
    ),
    "a trailing comma in a list": ("rows.json", f"[{_text(GOOD)},\n]".encode(), ["row 1", "line 2", "comma"]),
    "a line of 200 MB": ("rows.jsonl", a_line_of_200_mb, ["line 2", "longer than 64 MiB"]),
    "a number as answer": ("rows.jsonl", lines(GOOD, GOOD | {"answer": 3}), ["line 2", "answer is a number"]),
    "null as answer": ("rows.jsonl", lines(GOOD, GOOD | {"answer": None}), ["line 2", "answer is null"]),
    "null as row": ("rows.jsonl", lines(GOOD, "null"), ["line 2", "not a JSON object"]),
    "null as row of a list": ("rows.json", f"[{_text(GOOD)},\nnull]".encode(), ["row 2", "not a JSON object"]),
    "a list as answer": ("rows.jsonl", lines(GOOD, GOOD | {"answer": [["a"]]}), ["line 2", "answer is a list"]),
    "100,000 nested lists": ("rows.jsonl", lines(GOOD, f'{{"question": {DEEP}'), ["line 2", "nested too deeply"]),
    "100,000 nested lists in a list": (
        "rows.json",
        f"[{_text(GOOD)},\n{DEEP}".encode(),
        ["row 2", "nested too deeply"],
    ),
    "a name twice": ("rows.jsonl", lines(GOOD, '{"question": "q", "answer": "a", "answer": "b"}'), ["line 2", "twice"]),
    "an object": ("rows.json", json.dumps({"rows": [GOOD]}).encode(), ["line 1", "not a JSON list", ".jsonl"]),
    "lines called a list": ("rows.json", lines(GOOD, GOOD), ["line 1", "not a JSON list", ".jsonl"]),
    "a list called lines": ("rows.jsonl", json.dumps([GOOD]).encode(), ["line 1", "not a JSON object", ".json"]),
    "a role nobody knows": ("rows.jsonl", lines(turns("user", "wizard")), ["line 1", "'wizard'"]),
    "two assistants in a row": ("rows.jsonl", lines(turns("user", "assistant", "assistant")), ["line 1", "assistant"]),
    "a conversation that ends with the user": (
        "rows.jsonl",
        lines(turns("user", "assistant"), turns("user", "assistant", "user")),
        ["line 2", "user"],
    ),
    "CSV with an empty cell": ("rows.csv", b"question,answer\nq,a\nq,\n", ["line 3", "answer is null"]),
    "CSV with a short record": ("rows.csv", b"question,answer\nq,a\nq\n", ["line 3", "1 cell"]),
    "CSV with a quote left open": ("rows.csv", b'question,answer\nq,a\nq,"a\nq,a\n', ["line 3", "not closed"]),
    "CSV with a column twice": ("rows.csv", b"question,answer,answer\nq,a,b\n", ["line 1", "'answer'", "twice"]),
    "Parquet with numbers": (
        "rows.parquet",
        parquet(question=["q", "r"], answer=[1, 2]),
        ["row 1", "answer is a number"],
    ),
    "Parquet with a time that Python does not have": (
        "rows.parquet",
        a_parquet_file_with_the_year_146138,
        ["row 1", "column 'at'", "without this column"],
    ),
    "not Parquet": ("rows.parquet", b"PAR1 or not PAR1", ["row 1", "not readable as Parquet"]),
    "gzip cut off": ("rows.jsonl.gz", gzip.compress(lines(*[GOOD] * 99))[:-20], ["line ", "damaged or cut off"]),
    "not gzip": ("rows.csv.gz", b"question,answer\n", ["line 1", "not a gzip file"]),
}


FIXED = ["recipe=custom", "model=tiny", "stage=prepare", "hardware=cpu", "tracking=none"]


def prepare(path: Path, *words: str) -> Ended:
    return sft(*FIXED, f"data.path={path}", *words, cwd=path.parent)


@pytest.fixture
def run(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """The same as `prepare`, without a command of its own."""

    def running(path: Path, *words: str) -> Outcome:
        monkeypatch.chdir(path.parent)
        return execute(plan(load(*FIXED, f"data.path={path}", *words)), workers)

    return running


def write(path: Path, content: Content) -> None:
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)


def assert_told(ended: Ended, told: list[str]) -> None:
    assert ended.code == 2, ended.said
    assert "Traceback" not in ended.said
    for text in told:
        assert text in ended.err, ended.err


def assert_failed(outcome: Outcome, told: list[str]) -> None:
    """The same of a run without a command."""
    assert outcome.error is not None
    assert (outcome.state, outcome.error.exit_code) == ("failed", 2), outcome.error
    for text in told:
        assert text in outcome.error.show(), outcome.error.show()


@pytest.mark.parametrize("case", CASES)
def test_bad_data_is_told_before_anything_starts(case: str, tmp_path: Path) -> None:
    name, content, told = CASES[case]
    write(tmp_path / name, content)
    assert_told(prepare(tmp_path / name), [f"data.path: {name}, ", *told])
    assert [path.name for path in tmp_path.iterdir()] == [name]


def late(path: Path, last: bytes) -> Path:
    """A file whose last row is behind what is looked at before a run begins."""
    rows = (GOOD | {"question": f"What is {i}?", "answer": "It is this. " * 80} for i in range(2_999))
    write(path, lines(*rows) + last)
    assert path.stat().st_size > CHECKED_BYTES
    return path


def test_what_only_prepare_finds_leaves_no_stage_behind(tmp_path: Path) -> None:
    last = lines(GOOD | {"answer": 3})
    told = ["data.path: rows.jsonl, ", "line 3000", "answer is a number"]
    assert_told(prepare(late(tmp_path / "rows.jsonl", last)), told)
    assert not list((tmp_path / "outputs").glob("stages/**/manifest.json"))


def test_a_last_line_that_is_no_json_leaves_no_stage_behind(run: Callable[..., Outcome], tmp_path: Path) -> None:
    told = ["data.path: rows.jsonl, ", "line 3000", "not JSON"]
    assert_failed(run(late(tmp_path / "rows.jsonl", lines("what?"))), told)
    assert not list((tmp_path / "outputs").glob("stages/**/manifest.json"))


def test_rows_that_are_all_dropped_are_an_error(run: Callable[..., Outcome], tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", lines(*[GOOD | {"answer": ""}] * 20))
    assert_failed(run(tmp_path / "rows.jsonl"), ["data.path", "20", "empty_answer"])
    assert not list((tmp_path / "outputs").glob("stages/**/manifest.json"))


def test_bad_rows_are_dropped_and_counted_where_the_user_says_so(run: Callable[..., Outcome], tmp_path: Path) -> None:
    good = [GOOD | {"question": f"What is {i}?"} for i in range(30)]
    write(tmp_path / "rows.jsonl", b"\xef\xbb\xbf" + lines(*good[:20], "what?", "", *good[20:], b"\xff"))
    outcome = run(tmp_path / "rows.jsonl", "data.bad_rows=drop")
    assert outcome.state == "completed", outcome.error
    (report,) = (tmp_path / "outputs").glob("stages/prepare/*/report.json")
    rows = json.loads(report.read_text())["rows"]
    assert rows["dropped"]["malformed"] == 2
    assert rows["read"] == 32
    assert rows["used"] == 30


def test_mistakes_in_several_sources_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", lines(GOOD, "what?"))
    write(tmp_path / "b.csv", b"question,answer\nq\n")
    ended = sft(*FIXED, "data.sources={one: {path: a.jsonl}, two: {path: b.csv}}", cwd=tmp_path)
    assert_told(ended, ["data.sources.one: a.jsonl, line 2", "data.sources.two: b.csv, line 2"])
    ended = sft(*FIXED, "data.sources={one: {path: a.jsonl, wieght: 2}}", cwd=tmp_path)
    assert_told(ended, ["data.sources.one.wieght", "did you mean 'data.sources.one.weight'"])


def test_an_open_quote_is_an_error_even_where_bad_rows_are_dropped(tmp_path: Path) -> None:
    write(tmp_path / "rows.csv", b'question,answer\nq,a\n"q,a\n' + b"q,a\n" * 99)
    assert_told(prepare(tmp_path / "rows.csv", "data.bad_rows=drop"), ["line 3", "not closed"])


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    assert_told(prepare(tmp_path / "rows.jsonl"), ["is neither a file nor a folder"])


def test_a_bad_first_row_is_dropped_like_any_other(run: Callable[..., Outcome], tmp_path: Path) -> None:
    good = [GOOD | {"question": f"What is {i}?"} for i in range(30)]
    write(tmp_path / "rows.jsonl", lines({"junk": 1}, *good))
    outcome = run(tmp_path / "rows.jsonl", "data.bad_rows=drop")
    assert outcome.state == "completed", outcome.error
    (report,) = (tmp_path / "outputs").glob("stages/prepare/*/report.json")
    assert json.loads(report.read_text())["rows"]["dropped"]["malformed"] == 1


def test_a_file_name_that_is_not_utf8_is_no_obstacle(run: Callable[..., Outcome], tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    good = [GOOD | {"question": f"What is {i}?"} for i in range(30)]
    write(Path(os.fsdecode(bytes(folder) + b"/\xff.jsonl")), lines(*good))
    outcome = run(folder)
    assert outcome.state == "completed", outcome.error
