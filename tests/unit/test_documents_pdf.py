"""PDF: pages with their numbers, below their bookmarks."""

import sys
from collections import Counter
from pathlib import Path

import pytest
from pypdf import PdfWriter

from sft_runner.config.schema import Data
from sft_runner.data.documents import pdf, rows
from sft_runner.data.readers.faults import Faults
from sft_runner.errors import MachineError

LINES = ("The first page tells how to begin with it.", "The second page goes on.", "The third page ends the matter.")


@pytest.fixture
def manual(tmp_path: Path) -> Path:
    """Three pages, two of them below bookmarks."""
    import matplotlib
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    drawn, path = tmp_path / "drawn.pdf", tmp_path / "manual.pdf"
    with matplotlib.rc_context({"pdf.fonttype": 42}), PdfPages(drawn) as pages:
        for line in LINES:
            figure = Figure()
            figure.text(0.1, 0.8, line)
            figure.text(0.1, 0.7, "It has a second line.")
            pages.savefig(figure)
    writer = PdfWriter(clone_from=drawn)
    part = writer.add_outline_item(title="Install", page_number=1)
    writer.add_outline_item(title="Windows", page_number=2, parent=part)
    writer.add_metadata({"/Title": "The Manual"})
    writer.write(path)
    drawn.unlink()
    return path


def test_pages_are_sections(manual: Path) -> None:
    document = pdf.read(manual)
    assert document.title == "The Manual"
    assert document.unit == "page"
    assert [(section.headings, section.position) for section in document.sections] == [
        ((), 1),
        (("Install",), 2),
        (("Install", "Windows"), 3),
    ]
    for section, line in zip(document.sections, LINES, strict=True):
        assert section.text.split("\n") == [line, "It has a second line."]
    assert len(pdf.read(manual, most_pages=1).sections) == 1


def test_rows_name_the_page(manual: Path) -> None:
    found = list(rows([manual], manual.parent, Data(held_out=0), Faults(Counter())))
    assert [(row.source, row.unit, row.group) for row in found] == [
        (f"manual.pdf:{page}", "page", "manual.pdf") for page in (1, 3)
    ]
    assert '"The Manual > Install > Windows > page 3"' in found[1].values["prompt"]


def test_a_pdf_that_is_damaged_or_locked(manual: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(manual.read_bytes()[:700])
    with pytest.raises(pdf.Unreadable):
        pdf.read(broken)
    locked = PdfWriter(clone_from=manual)
    locked.encrypt("secret", algorithm="RC4-128")
    locked.write(broken)
    with pytest.raises(pdf.Unreadable):
        pdf.read(broken)


def test_a_pdf_of_which_the_library_knows_no_filter(manual: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd.pdf"
    odd.write_bytes(manual.read_bytes().replace(b"/FlateDecode", b"/FlateXecode"))
    with pytest.raises(pdf.Unreadable, match="/FlateXecode"):
        pdf.read(odd)


def test_without_the_library_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4")
    monkeypatch.setitem(sys.modules, "pypdf", None)
    with pytest.raises(MachineError, match=r"a\.pdf is a PDF") as caught:
        list(rows([tmp_path / "a.pdf"], tmp_path, Data(), Faults(Counter())))
    assert 'pip install "sft-runner[pdf]"' in caught.value.hint
