"""Each section becomes a question and its own words; whatever does not is counted."""

from collections import Counter
from pathlib import Path

import pytest

from sft_runner.config.schema import Data, Documents
from sft_runner.data.documents import SUFFIXES, rows
from sft_runner.data.documents.questions import LANGUAGES, language_of
from sft_runner.data.readers.faults import Faults
from sft_runner.data.row import Row
from sft_runner.errors import DataError

LONG = "This sentence has enough characters to be worth a question. "
ENGLISH = f"# Guide\n\n{LONG}\n\n## Install\n\n### Windows\n\n{LONG} On Windows.\n\n### Linux\n\nshort\n"
CHINESE = "# 指南\n\n## 安装\n\n" + 2 * "运行安装脚本，然后重新启动服务，最后检查日志里有没有错误信息。\n"


def made(folder: Path, texts: dict[str, str | bytes], **settings: object) -> tuple[list[Row], Counter[str]]:
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    options = {key: settings.pop(key) for key in Documents.__dataclass_fields__ if key in settings}
    data = Data(format="docs", documents=Documents(**options), **{"held_out": 0, **settings})  # type: ignore[arg-type]
    counts: Counter[str] = Counter()
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in SUFFIXES)
    found = list(rows(files, folder, data, Faults(counts, data.bad_rows == "drop")))
    assert_sums(found, counts, data)
    return found, counts


def assert_sums(found: list[Row], counts: Counter[str], data: Data) -> None:
    lost = sum(counts[f"sections_{reason}"] for reason in ("too_short", "repeated", "contradicting"))
    parts = counts["sections"] - lost + counts["parts"]
    assert len(found) == parts * data.documents.wordings + counts["questions_reworded"]
    assert counts["questions_reworded"] == sum(row.only_asked for row in found)


def names(found: list[Row]) -> list[str]:
    """What the questions are about, without the wording."""
    marks = ('"', '"') if found[0].values["prompt"].isascii() else ("“", "”")
    return [row.values["prompt"].partition(marks[0])[2].rpartition(marks[1])[0] for row in found]


def test_a_row_names_its_headings_and_its_place(tmp_path: Path) -> None:
    found, counts = made(tmp_path, {"a/guide.md": ENGLISH})
    assert counts == {"files": 1, "sections": 4, "sections_too_short": 2}
    assert names(found) == ["Guide", "Guide > Install > Windows"]
    assert [row.source for row in found] == ["a/guide.md:1", "a/guide.md:7"]
    assert {row.group for row in found} == {"a/guide.md"}
    assert found[1].values["completion"] == f"{LONG} On Windows."
    assert not any(row.only_asked for row in found)


def test_questions_are_asked_in_the_documents_language(tmp_path: Path) -> None:
    texts = {"a.md": ENGLISH, "b.md": CHINESE}
    english, _, chinese = (row.values["prompt"] for row in made(tmp_path, texts)[0])
    assert english.isascii()
    assert "“指南 > 安装”" in chinese
    forced = [row.values["prompt"] for row in made(tmp_path, texts, language="zh")[0]]
    assert all("“" in prompt for prompt in forced)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("An English text that quotes 安装.", "en"),
        ("安装：\n```bash\nsudo apt-get install -y python\n```\n然后运行脚本。", "zh"),
        ("これは日本語の文章です。漢字もあります。", "en"),
        ("1234 + 5678", "en"),
    ],
)
def test_the_language_of_a_text(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize(
    ("file", "text", "name"),
    [
        ("memory_api.md", LONG, "memory api"),
        ("sub/README.md", LONG, "sub"),
        ("a.md", f"---\ntitle: Front\n---\n{LONG}", "Front"),
        ("a.md", f"---\ntitle: Front\n---\n## Part\n{LONG}", "Front > Part"),
        ("a.md", f"---\ntitle: Front\n---\n# Head\n{LONG}", "Head"),
        ("a.md", f"# One\n# Two\n{LONG}", "One > Two"),
        ("a.html", f"<title>Page</title><h2>Part</h2><p>{LONG}", "Page > Part"),
        ("a.txt", LONG, "a"),
        ("a.rst", f"Head\n====\n\n{LONG}\n", "Head"),
    ],
)
def test_every_question_begins_with_the_documents_title(tmp_path: Path, file: str, text: str, name: str) -> None:
    assert names(made(tmp_path, {file: text})[0]) == [name]


def test_a_text_that_stood_elsewhere_is_learned_once(tmp_path: Path) -> None:
    found, counts = made(tmp_path, {"a.md": f"# A\n\n{LONG}", "b.md": f"# B\n\n{LONG.replace(' ', '  ')}\n\n"})
    assert names(found) == ["A"]
    assert counts["sections_repeated"] == 1


def test_no_question_has_two_answers(tmp_path: Path) -> None:
    texts = {
        "a.md": f"# Guide\n\n{LONG} a\n\n## Only here\n\n{LONG} b",
        "b.md": f"# guide\n\n{LONG} c\n\n## Note\n\n{LONG} d\n\n## Note\n\n{LONG} e",
    }
    found, counts = made(tmp_path, texts)
    assert names(found) == ["Guide", "Guide > Only here", "guide", "guide > Note"]
    asked = [row.values["prompt"] for row in found]
    assert "(in a.md)" in asked[0]
    assert "(in b.md)" in asked[2]
    assert "(in" not in asked[1]
    assert counts["sections_contradicting"] == 1
    assert found[3].values["completion"].endswith("d")


def test_a_long_section_is_asked_about_in_parts(tmp_path: Path) -> None:
    text = "# Guide\n\n" + "\n\n".join(LONG + str(number) for number in range(3))
    found, counts = made(tmp_path, {"a.md": text}, most_chars=100, wordings=2)
    assert [
        f'"Guide" (part {number} of 3)' in row.values["prompt"] for number, row in zip("112233", found, strict=True)
    ]
    assert counts["sections_divided"] == 1
    assert counts["parts"] == 2
    assert len({row.values["prompt"] for row in found}) == 6


def many(count: int) -> dict[str, str | bytes]:
    return {f"{number}.md": f"# Title {number}\n\n{LONG} {number}\n" for number in range(count)}


def test_other_files_and_settings_move_no_question(tmp_path: Path) -> None:
    few = {row.source: row.values["prompt"] for row in made(tmp_path, many(20), held_out=0.3)[0] if row.only_asked}
    more = {row.source: row.values["prompt"] for row in made(tmp_path, many(60), held_out=0.3)[0] if row.only_asked}
    assert few == {source: more[source] for source in few}
    assert len(more) > len(few) > 0
    other = {row.source for row in made(tmp_path, {}, held_out=0.3, seed=1)[0] if row.only_asked}
    assert other != set(more)


@pytest.mark.parametrize(("held_out", "low", "high"), [(0, 0, 0), (0.1, 10, 50), (0.5, 120, 180), (200, 10, 50)])
def test_a_share_of_the_facts_is_asked_in_a_wording_that_is_never_learned(
    tmp_path: Path, held_out: float, low: int, high: int
) -> None:
    found, counts = made(tmp_path, many(300), held_out=held_out, wordings=6)
    assert low <= counts["questions_reworded"] <= high
    for row in found:
        start = row.values["prompt"].partition('"')[0]
        kept = LANGUAGES["en"].asked if row.only_asked else LANGUAGES["en"].learned
        assert any(wording.startswith(start) for wording in kept)
        assert row.group == row.file
    taught = {row.values["completion"] for row in found if not row.only_asked}
    assert all(row.values["completion"] in taught for row in found if row.only_asked)


def test_all_wordings_are_used_and_differ() -> None:
    for language in LANGUAGES.values():
        assert len(language.learned) >= 6
        assert len(language.asked) >= 2
        everything = [*language.learned, *language.asked]
        assert len(set(everything)) == len(everything)
        assert all(wording.count("{}") == 1 for wording in everything)


def test_more_wordings_than_there_are_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.documents\.wordings: 7 .*"):
        made(tmp_path, {"a.md": ENGLISH}, wordings=7)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.md", b"# A\n\nfine\n\xe4\xf6\n", "a.md, line 4: not UTF-8"),
        ("a.pdf", b"no PDF", "a.pdf, line 1: not readable"),
        ("a.html", b"<![odd[x", "a.html, line 1: not readable: not HTML"),
    ],
)
def test_a_file_that_cannot_be_read_stops_or_is_counted(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    texts: dict[str, str | bytes] = {name: content, "b.md": ENGLISH}
    with pytest.raises(DataError) as caught:
        made(tmp_path, texts)
    assert told in caught.value.show()
    assert "data.bad_rows=drop" in caught.value.show()
    found, counts = made(tmp_path, texts, bad_rows="drop")
    assert len(found) == 2
    assert counts["files_unreadable"] == 1


@pytest.mark.parametrize("name", ["a.md", "a.pdf"])
def test_a_pointer_to_a_document_is_not_the_document(tmp_path: Path, name: str) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12\n"
    for bad_rows in ("error", "drop"):
        with pytest.raises(DataError, match=f"{name}, line 1: a pointer of Git LFS"):
            made(tmp_path, {name: pointer, "b.md": ENGLISH}, bad_rows=bad_rows)


def test_a_readme_is_called_by_its_folder(tmp_path: Path) -> None:
    files = [tmp_path / "README.md", tmp_path / "sub" / "index.md"]
    for number, file in enumerate(files):
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{LONG} {number}")
    data = Data(held_out=0)
    assert names(list(rows(files, tmp_path, data, Faults(Counter())))) == [tmp_path.name.replace("_", " "), "sub"]
    assert names(list(rows(files, tmp_path, data, Faults(Counter()), called="own-set"))) == ["own set", "sub"]


def test_marks_and_line_ends_of_other_systems(tmp_path: Path) -> None:
    text = f"\ufeff# Guide\r\n\r\n{LONG}\0\r\n\r\n## Old\r{LONG} b\r"
    found, _ = made(tmp_path, {"a.md": text})
    assert names(found) == ["Guide", "Guide > Old"]
    assert [row.number for row in found] == [1, 5]
    assert not any("\r" in row.values["completion"] or "\0" in row.values["completion"] for row in found)


def test_a_quick_look_ends_early(tmp_path: Path) -> None:
    made(tmp_path, many(9))
    files = sorted(tmp_path.glob("*.md"))
    counts: Counter[str] = Counter()
    assert len(list(rows(files, tmp_path, Data(held_out=0), Faults(counts), most_bytes=100))) == 2
    assert counts["files"] == 2
