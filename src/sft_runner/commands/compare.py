"""`sft-runner compare`: runs beside each other."""

import json
import shutil
from pathlib import Path

from sft_runner.commands.words import add_output_dir, parser, write
from sft_runner.report import comparison, comparison_page, comparison_text
from sft_runner.report.record import find


def main(arguments: list[str]) -> int:
    """Put runs beside each other: what was set otherwise, the scores with their intervals, and what it took."""
    options = parser("compare", main, _HELP)
    options.add_argument("runs", nargs="+", metavar="RUN", help="a run folder, a name, NAME/TIME, or how a time begins")
    add_output_dir(options)
    options.add_argument("--html", metavar="FILE", help="write a page with pictures too")
    options.add_argument("--json", action="store_true", help="for programs")
    words = options.parse_args(arguments)
    folder = Path(words.output_dir).expanduser()
    found = comparison.compare(list({run.folder: run for run in (find(word, folder) for word in words.runs)}.values()))
    if words.html:
        write("--html", words.html, comparison_page.page(found).encode("utf-8", "replace"))
    if words.json:
        print(json.dumps(comparison_text.as_json(found), indent=1, ensure_ascii=False))
    else:
        print(comparison_text.text(found, shutil.get_terminal_size((100, 24)).columns))
        if words.html:
            print(f"page: {words.html}")
    return 0


_HELP = """\
RUN is a name (its newest run), NAME/TIME, the beginning of a time, or a run folder, as `sft-runner models` shows them.
Only keys that differ are shown. The best score of a line is marked with *, and with ≈ those that cannot be told from it
on these rows: the 95 % interval of the difference holds 0. Runs that were scored on other rows are said to be not
comparable, and nothing is marked.

  sft-runner compare dates dates-r16
  sft-runner compare code/20260301-1200 code/20260302-0915 --html compare.html
  sft-runner compare outputs/runs/qa/* --json | jq '.scores[] | select(.name == "exact match")'"""
