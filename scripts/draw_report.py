"""Draw where the rows of a data set went, as the data report shows it, for the guide to the data.

python scripts/draw_report.py outputs/stages/prepare/*/report.json docs/report.svg
"""

import json
import re
import sys
from pathlib import Path

import sft_runner.page
from sft_runner.data.report.page import page

STYLE = (Path(sft_runner.page.__file__).parent / "page.css").read_text()
FONT = 'svg { font-family: system-ui, "Segoe UI", "Noto Sans", sans-serif; background: var(--paper); }'


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    html = page(json.loads(source.read_text()))
    found = re.search(r'<svg viewBox="0 0 (\S+) (\S+)"(.*?</svg>)', html, re.DOTALL)
    assert found, "the page's first picture"
    width, height, rest = found.groups()
    box = f'viewBox="-16 -16 {float(width) + 32:g} {float(height) + 32:g}" width="{float(width) + 32:g}"'
    head, body = rest.split(">", 1)
    target.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" {box}{head}><style>{STYLE}{FONT}</style>{body}\n')


if __name__ == "__main__":
    main()
