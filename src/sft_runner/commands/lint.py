"""`sft-runner lint`: recipes and the files of choices, looked at without running anything."""

import gc
import json
import os
import sys
from pathlib import Path

from sft_runner.commands.words import parser
from sft_runner.config.sources import shown
from sft_runner.errors import UserError
from sft_runner.review.lint import screen
from sft_runner.review.lint.finding import ERROR, WARNING
from sft_runner.review.lint.linting import lint


def main(arguments: list[str]) -> int:
    """Look at recipes and files of conf/ as a reviewer would: each is typed, composed on the preset that its header
    names, settled and planned, without its data, its model or a card."""
    options = parser("lint", main, _HELP)
    options.add_argument("files", nargs="*", metavar="FILE", help="files or folders; none: all, the shipped ones too")
    shape = options.add_mutually_exclusive_group()
    shape.add_argument("--github", action="store_true", help="annotations of a pull request, for GitHub Actions")
    shape.add_argument("--json", action="store_true", help="for programs")
    options.add_argument("--strict", action="store_true", help="warnings are errors")
    options.add_argument("--rules", action="store_true", help="list the rules and stop")
    words = options.parse_intermixed_args(arguments)
    if words.rules:
        print("\n".join(screen.rules()))
        return 0
    gc.disable()  # looking for garbage takes a sixth of the time, and there is little of it
    try:
        report = lint([Path(name) for name in words.files])
    except UserError as error:
        if not words.json:
            raise
        print(json.dumps({"error": error.message, "hint": error.hint}, ensure_ascii=False))
        return 2
    finally:
        gc.enable()
    elsewhere = not report.own and not report.skipped and not (words.files and report.files)
    if elsewhere:
        here = f"{Path.cwd()} has no recipes and no conf of its own"
        print(f"warning: {here}: only shipped files were looked at", file=sys.stderr)
    for path in report.skipped:
        print(f"warning: {shown(path)} is no recipe and no file of conf/, and is left out", file=sys.stderr)
    if words.json:
        print(screen.as_json(report))
    else:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        lines = screen.github(report) if words.github else screen.text(report, colour)
        print("\n".join(lines))
    return 2 if report.count(ERROR) or (words.strict and (report.count(WARNING) or elsewhere)) else 0


_HELP = """\
With FILES, the recipes that are made of a file are looked at too: a preset that changed may break a recipe that did
not. A finding that is meant to be so is silenced by `# lint: ignore RULE` at the end of its line, or above it.
Exit code: 0 without errors, 2 with one.

  sft-runner lint
  sft-runner lint recipes/code.yaml conf/hardware
  sft-runner lint --rules
  sft-runner lint --github --strict                # in CI
  sft-runner lint --json | jq '.findings[].rule'"""
