"""The real thing: 348 files in Chinese and English, with fences full of `#` comments."""

import re
import time
from collections import Counter
from pathlib import Path

import pytest

from conftest import ROOT
from sft_runner.config.schema import Data
from sft_runner.data.documents import rows
from sft_runner.data.readers.faults import Faults
from sft_runner.data.row import Row

FENCE = re.compile(r"\s*(?:(?:[-*+>]|\d+[.)])\s+)*(`{3,}|~{3,})(.*)$")


@pytest.fixture
def sage(shared_data: Path) -> tuple[Path, list[Row], Counter[str], float]:
    folder, counts = shared_data / "sage_docs", Counter[str]()
    start = time.perf_counter()
    found = list(rows(sorted(folder.rglob("*.md")), folder, Data(), Faults(counts)))
    return folder, found, counts, time.perf_counter() - start


def fenced_lines(lines: list[str]) -> set[int]:
    """Numbers of the lines behind an opening fence, found without a parser."""
    inside, fence = set(), ""
    for number, line in enumerate(lines, 1):
        found = FENCE.match(line)
        if fence:
            inside.add(number)
            if found and found[1].startswith(fence) and not found[2].strip():
                fence = ""
        elif found and not ("`" in found[1] and "`" in found[2]):
            fence = found[1]
    return inside


def test_rows_of_the_real_documentation(sage: tuple[Path, list[Row], Counter[str], float]) -> None:
    folder, found, counts, seconds = sage
    print(f"{len(found)} rows, {dict(counts)}, {seconds:.1f} s")
    assert counts["files"] == 348
    assert 5000 < len([row for row in found if not row.only_asked]) < 6000
    lost = sum(counts[f"sections_{reason}"] for reason in ("too_short", "repeated", "contradicting"))
    assert len(found) == counts["sections"] - lost + counts["parts"] + counts["questions_reworded"]

    answers: dict[str, str] = {}
    lines = {row.file: (folder / row.file).read_text().split("\n") for row in found}
    fences = {file: fenced_lines(text) for file, text in lines.items()}
    for row in found:
        assert (folder / row.file).is_file()
        assert answers.setdefault(row.values["prompt"], row.values["completion"]) == row.values["completion"]
        name = re.search(r"[\"“](.+)[\"”]", row.values["prompt"])
        assert name
        assert row.number not in fences[row.file], row.source
        line = lines[row.file][row.number - 1]
        if re.match(r" {0,3}#{1,6}\s", line):
            # The heading's own words stand in the question: compared by their letters, for markup is taken off.
            words = "".join(re.findall(r"\w", re.sub(r"\]\([^)]*\)|\*|<[^>]*>", "", line)))
            asked = "".join(re.findall(r"\w", name[1]))
            assert words in asked, row.source
        else:
            assert row.number == 1, row.source
    assert len({row.file for row in found}) > 330


def test_the_shipped_choice_names_a_commit() -> None:
    text = (ROOT / "conf" / "data" / "sage_docs.yaml").read_text()
    assert re.search(
        r"^path: git\+https://github\.com/intellistream/SAGE-Pub@[0-9a-f]{40}#subdirectory=docs_src$", text, re.M
    )
