"""The table of results: what is written comes back, and what a person wrote around it stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from sft_runner.errors import MachineError, UserError
from sft_runner.review.record import cells
from sft_runner.review.record.table import COLUMNS, Row, read
from sft_runner.review.record.writing import write

NASTY = [
    ("data.path=my file.jsonl",),
    ('data.columns={prompt: "{{ a | b }}"}', "lora.r=4"),
    (r"evaluate.pattern=\|(\d+)\|", r"a=\\", "b=\\"),
    ("data.path=数据/日本.jsonl", "name=é"),
    ("a=`x`", "b=``", "c='it''s'"),
    ("a=line\nline\r", "b=&#10;", "c=\t"),
    ("a=", "~train.extra", "+b=<b>*x*</b>"),
    (),
]


def row(words: tuple[str, ...] = ("hardware=cpu",), date: str = "2026-03-01 12:00", **more: str) -> Row:
    found = {column: f"{column} of it" for column in COLUMNS}
    return Row(found | {"date": date, "words": cells.said(words), "fingerprint": "`00ff00ff00ff00ff`"} | more)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recipes" / "my own.results.md"


@pytest.fixture(autouse=True)
def _folder(path: Path) -> None:
    path.parent.mkdir()


@pytest.mark.parametrize("words", NASTY, ids=str)
def test_words_come_back(words: tuple[str, ...], path: Path) -> None:
    assert write(path, "my own", [row(words)]).changed
    (found,) = read(path)
    assert found.words == words
    assert found.fingerprint == "00ff00ff00ff00ff"
    assert path.read_bytes().decode().split("\n")[found.line - 1].startswith("| 2026-03-01 12:00 |")


@pytest.mark.parametrize("words", NASTY, ids=str)
def test_a_reviewer_reads_the_words_as_they_were(words: tuple[str, ...], path: Path) -> None:
    """By a renderer of GitHub's tables: one row of as many cells as columns, and nothing in it is markup."""
    write(path, "my own", [row(words, score=cells.plain("<b> *a* _b_ [c](d) `e` | f &amp; ~~g~~"))])
    tokens = MarkdownIt("commonmark").enable("table").parse(path.read_text())
    texts = [token for token in tokens if token.type == "inline"][-len(COLUMNS) :]
    assert [token.type for token in tokens].count("td_open") == len(COLUMNS)
    shown = {column: text.children or [] for column, text in zip(COLUMNS, texts, strict=True)}
    assert "".join(child.content for child in shown["score"]) == "<b> *a* _b_ [c](d) `e` | f &amp; ~~g~~"
    if words:
        (code,) = shown["words"]
        assert code.type == "code_inline"
        assert cells.words(code.content) == words


@pytest.mark.parametrize("text", ["a|b", "a\\|b", "\\", "é 数", "a | b |", "`", "**failed**", "|"])
def test_cells_come_back(text: str, path: Path) -> None:
    write(path, "my own", [row(machine=text)])
    write(path, "my own", [row(("hardware=other",), machine="other")])  # written again beside another row
    assert {found.cells["machine"] for found in read(path)} == {text, "other"}


def test_an_empty_cell_is_marked(path: Path) -> None:
    write(path, "my own", [row(memory="")])
    assert read(path)[0].cells["memory"] == cells.NONE


def test_a_run_replaces_its_own_row_only(path: Path) -> None:
    write(path, "my own", [row(date="2026-03-01 12:00"), row(("hardware=cpu", "lora.r=4"), date="2026-03-03 12:00")])
    write(path, "my own", [row(date="2026-03-02 12:00", machine="another"), row(date="2026-03-04 12:00")])
    assert [(found.date, found.words[1:], found.cells["machine"]) for found in read(path)] == [
        ("2026-03-04 12:00", (), "machine of it"),
        ("2026-03-03 12:00", ("lora.r=4",), "machine of it"),
        ("2026-03-02 12:00", (), "another"),
    ]


MARKED = {"commit": "`5eed`, **not what the recipe makes**"}
OLD, NEW = "2026-03-01 12:00", "2026-03-05 12:00"


def test_an_older_run_replaces_no_newer_one(path: Path) -> None:
    write(path, "my own", [row(date=NEW)])
    before = path.read_bytes()
    told = write(path, "my own", [row(date=OLD)])
    assert path.read_bytes() == before
    assert [(given.date, newer.date) for given, newer in told.kept] == [(OLD, NEW)]
    assert (told.changed, told.replaced) == (False, [])
    told = write(path, "my own", [row(date=OLD)], force=True)
    assert [found.date for found in read(path)] == [OLD]
    assert [found.date for found in told.replaced] == [NEW]


@pytest.mark.parametrize("date", [OLD, NEW])
def test_a_marked_row_replaces_no_other(date: str, path: Path) -> None:
    """Not even a later one with `--force`: it stands beside it, until the recipe is measured again."""
    write(path, "my own", [row(date="2026-03-03 12:00")])
    for _ in range(2):
        write(path, "my own", [row(date=date, **MARKED)], force=True)
        assert sorted(found.marked for found in read(path)) == [False, True]
    told = write(path, "my own", [row(date="2026-03-04 12:00")])
    assert [(found.date, found.marked) for found in read(path)] == [("2026-03-04 12:00", False)]
    assert len(told.replaced) == 2


def test_the_order_of_words_says_nothing(path: Path) -> None:
    write(path, "my own", [row(("a=1", "b=2")), row(("b=2", "a=1"), date="2026-03-02 12:00")])
    assert [found.words for found in read(path)] == [("b=2", "a=1")]


def test_an_older_run_goes_below(path: Path) -> None:
    write(path, "my own", [row(date="2026-03-05 12:00")])
    write(path, "my own", [row(("a=1",), date="2026-03-04 12:00"), row(("a=2",), date="2026-03-06 12:00")])
    assert [found.date[8:10] for found in read(path)] == ["06", "05", "04"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_notes_around_the_table_stay(end: str, start: str, path: Path) -> None:
    write(path, "my own", [row()])
    table = path.read_text().split("\n\n", 2)[2].rstrip("\n").split("\n")
    before = [f"{start}# Notes", "", "| a | b |", "|---|---|", "| date | words |", "", "see \u2028 below", ""]
    after = ["", "<!-- 数 -->", "| no | row |", ""]
    path.write_bytes(end.join([*before, *table, *after]).encode())
    assert write(path, "my own", [row(("a=1",))]).changed
    lines = path.read_bytes().decode().split(end)
    assert lines[: len(before)] == before
    assert lines[-len(after) :] == after
    assert len(read(path)) == 2
    assert [found.line for found in read(path)] == [len(before) + 3, len(before) + 4]


def test_a_column_of_ones_own_stays(path: Path) -> None:
    path.write_text(
        "| words | fingerprint | who | date | machine |\n|:--|--|--|--|--:|\n| – | 12ab34cd | me | 2026 | CPU |\n"
    )
    write(path, "my own", [row(("a=1",), date="2027")])
    new, old = read(path)
    assert (new.words, new.cells["who"], new.cells["score"]) == (("a=1",), cells.NONE, "score of it")
    assert (old.words, old.cells["who"], old.cells["score"]) == ((), "me", cells.NONE)
    assert list(old.cells)[:5] == ["words", "fingerprint", "who", "date", "machine"]


def test_the_same_is_not_written_again(path: Path) -> None:
    assert write(path, "my own", [row()]).changed
    before = path.stat()
    assert not write(path, "my own", [row()]).changed
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_nothing_to_read(path: Path) -> None:
    assert read(path) == []
    path.write_text(" \n")
    assert read(path) == []
    assert write(path, "my own", [row()]).changed
    assert path.read_text().startswith("# Results of my own\n\n")


def table(*lines: str) -> str:
    return "\n".join(["# x", "", "| date | words | machine | fingerprint |", "|---|---|---|---|", *lines, ""])


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        (table("<<<<<<< HEAD", "| 1 | – | CPU | 12ab34cd |", "=======", ">>>>>>> other"), 5, "a merge conflict"),
        (table("| 1 | – | CPU | 12ab34cd |", "", ">>>>>>> other"), 7, "a merge conflict"),
        (table("| 1 | – | CPU |"), 5, "3 cells in a table of 4 columns"),
        (table("| 1 | a=b | CPU | 12ab34cd |", "| 1 | a|b | CPU | 12ab34cd |"), 6, "5 cells"),
        (table("| 1 | – | CPU | unknown |"), 5, "'unknown' is no fingerprint"),
        (table("| 1 | `a='b` | CPU | 12ab34cd |"), 5, "its words cannot be read"),
    ],
)
def test_what_is_no_table_is_told_with_its_line(text: str, line: int, what: str, path: Path) -> None:
    path.write_text(text)
    for look in (lambda: read(path), lambda: write(path, "my own", [row()])):
        with pytest.raises(UserError, match=f"line {line}: ") as caught:
            look()
        assert what in caught.value.message
        assert caught.value.hint
    assert path.read_text() == text


@pytest.mark.parametrize(
    "text", ["# My notes\n", "| a | b |\n|---|---|\n| 1 | 2 |\n", "| date | words | machine | fingerprint |\n"]
)
def test_another_file_is_left_alone(text: str, path: Path) -> None:
    path.write_text(text)
    with pytest.raises(UserError, match="no table of results"):
        write(path, "my own", [row()])
    assert path.read_text() == text


def test_what_is_no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        read(path)


def test_a_kill_before_the_new_file_has_its_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, "my own", [row()])
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write(path, "my own", [row(("a=1",))])
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_full_disk_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, "my own", [row()])
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(MachineError, match="no space left"):
        write(path, "my own", [row(("a=1",))])
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_link_and_a_mode_stay(path: Path) -> None:
    real = path.parent / "elsewhere.md"
    path.symlink_to(real)
    write(path, "my own", [row()])
    real.chmod(0o640)
    write(path, "my own", [row(("a=1",))])
    assert path.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert len(read(path)) == 2


WRITER = """
import sys
from pathlib import Path
from test_record_table import row
from sft_runner.review.record.writing import write
for number in range(10):
    write(Path(sys.argv[1]), "my own", [row((f"a={sys.argv[2]}.{number}",))])
"""


def test_two_commands_at_once_lose_nothing(path: Path) -> None:
    """None overwrites what the other wrote in between."""
    command = [sys.executable, "-c", WRITER, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    children = [subprocess.Popen([*command, str(child)], env=environment) for child in range(2)]
    assert [child.wait() for child in children] == [0, 0]
    assert len({found.words for found in read(path)}) == 20
