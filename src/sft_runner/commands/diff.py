"""`sft-runner diff`: what a change does to every recipe."""

import io
import json
import os
import sys

from sft_runner.commands.words import parser
from sft_runner.errors import MachineError, UserError


def main(arguments: list[str]) -> int:
    """Show what a change does to every recipe that it touches: settings, stages that run again, memory, steps, time."""
    options = parser("diff", main, _HELP)
    options.add_argument("words", nargs="*", metavar="GIT-REF | key=value", help="the old side, and words to plan with")
    options.add_argument("--recipe", action="append", default=[], metavar="NAME", help="only this recipe; repeat it")
    form = options.add_mutually_exclusive_group()
    form.add_argument("--md", action="store_true", help="Markdown for a comment on a pull request")
    form.add_argument("--json", action="store_true", help="for programs")
    asked = options.parse_intermixed_args(arguments)
    references = [word for word in asked.words if "=" not in word and word[:1] not in ("~", "+")]
    if len(references) > 1:
        raise UserError(f"diff compares one pair of sides, not {' and '.join(references)}", "write it as A..B")
    words = [word for word in asked.words if word not in references]
    if wrong := next((word for word in words if word.startswith(("recipe=", "-"))), None):
        raise UserError(f"diff looks at all recipes: '{wrong}' is no setting", "name one with --recipe NAME")

    from sft_runner.review.diff.changes import changes
    from sft_runner.review.diff.markdown import markdown
    from sft_runner.review.diff.sides import sides
    from sft_runner.review.diff.text import as_json, text

    found = changes(sides(references[0] if references else None, words, asked.recipe))
    if asked.json:
        _say(json.dumps(as_json(found), indent=1))
    else:
        _say(markdown(found) if asked.md else text(found))
    return 2 if found.changes or found.unknown else 0


def _say(told: str) -> None:
    """Print it whatever letters stdout takes. Raises `MachineError` where it cannot be written."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        print(told, flush=True)
    except BrokenPipeError:
        raise  # who read it has seen enough
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python fails again when it flushes at exit
        raise MachineError(f"stdout: {error.strerror}", "make room where it is written to") from None


_HELP = """\
The old side is the tree at GIT-REF; without one the merge base with the default branch, else HEAD. The new side is the
working tree, with recipes that are not added yet. A..B compares two commits, A...B what B did since it left A. Each
recipe is planned with the command in its header (without a preset there: hardware=cpu), and on every preset whose file
changed. Exit code: 0 nothing changes, 2 something does, or may do.

  sft-runner diff
  sft-runner diff HEAD
  sft-runner diff HEAD hardware=rtx3060 method=dora
  sft-runner diff HEAD --recipe quickstart
  sft-runner diff HEAD~1..HEAD --md
  sft-runner diff HEAD --json | jq '.changes[].case'"""
