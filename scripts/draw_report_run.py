"""Draw the top of a run's report as a browser shows it, for the README.

python scripts/draw_report_run.py outputs/runs/quickstart/TIME docs/report-run.png
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WIDTH, HEIGHT = 960, 890
"""Of the picture, in pixels: down to the picture of the scores."""


def main() -> None:
    folder, target = map(Path, sys.argv[1:])
    browser = shutil.which("chromium") or shutil.which("google-chrome") or sys.exit("no chromium on this machine")
    with tempfile.TemporaryDirectory() as profile:
        words = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
        words += [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={target.absolute()}"]
        page = (folder / "report.html").resolve(strict=True).as_uri()
        subprocess.run([browser, *words, page], check=True, capture_output=True)


if __name__ == "__main__":
    main()
