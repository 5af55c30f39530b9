"""Run a command and draw what it said, for the README.

python scripts/draw_run.py docs/quickstart.svg recipe=quickstart
"""

import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text


def main() -> None:
    target, words = Path(sys.argv[1]), sys.argv[2:]
    ended = subprocess.run([sys.executable, "-m", "sft_runner", *words], capture_output=True, text=True, check=True)
    screen = ended.stdout.replace(f"{Path.cwd()}/", "")  # the same picture wherever it is drawn
    console = Console(record=True, width=112, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(Text("$ python -m sft_runner " + " ".join(words), style="bold green"))
    for line in screen.splitlines():
        style = "bold" if line.startswith(("done", "model", "next")) or "→" in line else ""
        console.print(Text(line, style=style))
    svg = console.export_svg(title="sft_runner")
    target.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))  # no fonts from elsewhere


if __name__ == "__main__":
    main()
