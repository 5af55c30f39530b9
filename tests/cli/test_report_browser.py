"""The pages in a real browser without a network: no error on its console, nothing asked for, nothing cut off."""

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest

from command import SMALL, sft
from run_folders import run_folder
from sft_runner.page import without_links
from sft_runner.report import comparison, comparison_page
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


def keep(file: Path, page: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page, encoding="utf-8")


def of_run(folder: Path) -> Path:
    """The report of a run folder, written beside it."""
    record = clean(read(folder))
    keep(folder / "report.html", page(record, parts(record)))
    return folder / "report.html"


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


MEASURE = """<!doctype html><style>body {{ margin: 0 }} iframe {{ border: 0; width: {width}px; height: 900px }}</style>
<iframe srcdoc="{page}"></iframe><pre id="found"></pre><script>
onload = () => {{
  const page = document.querySelector("iframe").contentDocument, out = [];
  for (const one of page.querySelectorAll("body *")) {{
    const box = one.getBoundingClientRect(), around = one.closest(".scroll, pre, details:not([open]) > *, .hidden");
    if (!around && box.width && (box.right > {width} + 1 || box.left < -1)) out.push(one.outerHTML.slice(0, 90));
  }}
  for (const table of page.querySelectorAll("{fits}"))
    if (table.parentNode.scrollWidth > table.parentNode.clientWidth) out.push("scrolls: " + table.innerText);
  const root = page.documentElement;
  document.querySelector("#found").textContent = JSON.stringify({{
    wider: root.scrollWidth - root.clientWidth, out, paper: getComputedStyle(page.body).backgroundColor,
    ink: getComputedStyle(page.body).color }});
}};
</script>"""
"""Frames a page as wide as a screen, and writes down what lies beyond its edge. A window cannot be as narrow."""
DARK = "--blink-settings=preferredColorScheme=0"


def measured(file: Path, width: int, *words: str, fits: str = ":not(*)") -> dict[str, Any]:
    """What a page looks like at a width; tables that `fits` selects must not need scrolling."""
    page = re.sub(r"<meta http-equiv=.*?>", "", file.read_text(encoding="utf-8"))
    frame = file.parent / "frame.html"
    frame.write_text(MEASURE.format(width=width, page=escape(page), fits=fits), encoding="utf-8")
    dom = browse(frame, "--window-size=1300,1000", "--dump-dom", *words).stdout
    (found,) = re.findall(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL)
    said: dict[str, Any] = json.loads(unescape(found))
    return said


@pytest.mark.parametrize("width", [400, 1100])
def test_nothing_is_cut_off(tmp_path: Path, width: int) -> None:
    gate = {"limit": "min", "wanted": 0.6, "found": 0.41, "passed": False, "missed_by": 0.19, "interval": [0.34, 0.48]}
    long = {"model.name": "organisation/" + "a-very-long-name-" * 6}
    folder = run_folder(tmp_path, gates=[gate | {"gate": "exact_match"}], fit_to_serve=False, config=long)
    file = of_run(folder)
    found = measured(file, width, fits="section:nth-of-type(2) table, section:nth-of-type(3) table")
    assert (found["wider"], found["out"]) == (0, [])
    runs = [read(run_folder(tmp_path, time=time, config={"lora.r": int(time)})) for time in ("1", "2", "3")]
    keep(folder / "compare.html", comparison_page.page(comparison.compare(runs)))
    found = measured(folder / "compare.html", width)
    assert (found["wider"], found["out"]) == (0, [])


def test_what_is_cut_off_would_be_seen(tmp_path: Path) -> None:
    file = of_run(run_folder(tmp_path))
    file.write_text(file.read_text().replace("<h1>", '<h1 style="width: 90rem">'))
    found = measured(file, 400)
    assert found["wider"] > 0
    assert found["out"]


def test_it_is_dark_where_the_system_is(tmp_path: Path) -> None:
    file = of_run(run_folder(tmp_path))
    light, dark = measured(file, 1100), measured(file, 1100, DARK)
    assert (light["paper"], dark["paper"]) == ("rgb(255, 255, 255)", "rgb(20, 24, 30)")
    assert (light["ink"], dark["ink"]) == ("rgb(28, 36, 48)", "rgb(228, 232, 238)")


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
    pages = [one.with_suffix(".html").read_text() for one in attached]
    assert pages == [without_links(file.read_text())]
    assert "<a href" not in pages[0]
