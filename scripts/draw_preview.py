"""Draw what `sft-runner preview` shows, for the guide to the data.

python scripts/draw_preview.py docs/preview.svg recipe=quickstart
"""

import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from sft_runner import load
from sft_runner.data.report import terminal
from sft_runner.data.sampling import sample
from sft_runner.preview import LOOKED_AT

ROWS = 2


def main() -> None:
    target, words = Path(sys.argv[1]), sys.argv[2:]
    samples, report = sample(load(*words).config, LOOKED_AT)
    console = Console(record=True, width=100, file=open("/dev/null", "w"), force_terminal=True, highlight=False)  # noqa: SIM115
    console.print(Text(f"$ sft-runner preview {' '.join(words)} --rows {ROWS}\n", style="bold green"))
    terminal.show(console, terminal.chosen(samples, ROWS), report)
    svg = console.export_svg(title="sft-runner preview")
    target.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))  # no fonts from elsewhere


if __name__ == "__main__":
    main()
