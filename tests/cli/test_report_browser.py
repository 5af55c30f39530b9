"""The pages in a real browser without a network: no error on its console, nothing asked for, nothing cut off."""

import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from command import SMALL, sft
from run_folders import run_folder
from sft_runner.report import comparison, comparison_page, keep
from sft_runner.report.cleaning import clean
from sft_runner.report.page import page, parts
from sft_runner.report.record import read

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no headless browser on this machine")
OFFLINE = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND"]
CONSOLE = re.compile(r'.*:CONSOLE.*|.*"(?:Refused|Failed) to.*')


def browse(file: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Open a page; its console goes to stderr."""
    assert BROWSER
    profile = f"--user-data-dir={file.parent / 'profile'}"
    ended = subprocess.run(
        [BROWSER, *OFFLINE, profile, "--enable-logging=stderr", "--v=0", *words, file.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended


def of_run(folder: Path) -> Path:
    """The report of a run folder, written beside it."""
    record = clean(read(folder))
    keep(folder / "report.html", page(record, parts(record)))
    return folder / "report.html"


def colours(picture: Path) -> tuple[tuple[int, int], set[bytes]]:
    """Size of a PNG and the colours of every hundredth pixel."""
    data = picture.read_bytes()
    width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
    assert depth == 8
    pixel = {2: 3, 6: 4}[kind]
    packed, place = b"", 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        if data[place + 4 : place + 8] == b"IDAT":
            packed += data[place + 8 : place + 8 + length]
        place += length + 12
    raw = zlib.decompress(packed)
    return (width, height), {raw[at : at + pixel] for at in range(1, len(raw) - pixel, 100 * pixel)}


@pytest.mark.parametrize("state", ["completed", "failed"])
def test_a_report_opens_without_an_error(tmp_path: Path, state: str) -> None:
    file = of_run(run_folder(tmp_path, state=state, done=None if state == "completed" else ("prepare",)))
    ended = browse(file, "--dump-dom")
    assert not CONSOLE.search(ended.stderr), ended.stderr
    assert ended.stdout.count("<section") >= 8
    assert "What proves it" in ended.stdout


def test_a_comparison_opens_without_an_error(tmp_path: Path) -> None:
    runs = [read(run_folder(tmp_path, time=time, config={"lora.r": int(time)})) for time in ("1", "2")]
    keep(tmp_path / "compare.html", comparison_page.page(comparison.compare(runs)))
    ended = browse(tmp_path / "compare.html", "--dump-dom")
    assert not CONSOLE.search(ended.stderr), ended.stderr
    assert "Loss" in ended.stdout or "loss" in ended.stdout


def test_an_error_would_be_seen(tmp_path: Path) -> None:
    """The console is really read: a page that asks for a script is refused by its own policy, and says so."""
    file = of_run(run_folder(tmp_path))
    file.write_text(file.read_text().replace("</body>", '<script src="https://example.org/x.js"></script></body>'))
    assert CONSOLE.search(browse(file, "--dump-dom").stderr)


@pytest.mark.parametrize("width", [500, 1200])
def test_it_is_drawn(tmp_path: Path, width: int) -> None:
    file = of_run(run_folder(tmp_path))
    picture = tmp_path / "page.png"
    browse(file, f"--window-size={width},1600", f"--screenshot={picture}")
    size, found = colours(picture)
    assert size == (width, 1600)
    assert len(found) > 20


@pytest.mark.slow
def test_a_real_run_leaves_a_report_that_opens(tmp_path: Path) -> None:
    ended = sft(*SMALL, "train.max_steps=20", "evaluate.gates={exact_match: {min: 0.99}}", cwd=tmp_path)
    assert ended.code == 1, ended.said
    (file,) = tmp_path.glob("outputs/runs/*/*/report.html")
    assert str(file) in ended.out
    opened = browse(file, "--dump-dom")
    assert not CONSOLE.search(opened.stderr), opened.stderr
    assert "Not fit to serve" in opened.stdout
    assert "could not be made" not in opened.stdout
    assert "not run: a gate failed" in opened.stdout
    assert "report lacks a part" not in ended.err
    attached = list(tmp_path.glob("outputs/mlartifacts/*/artifacts/report.md"))
    assert [one.read_bytes() for one in attached] == [file.with_suffix(".md").read_bytes()]
