"""`sft-runner preview`: rows as tokens, before anything is trained."""

from sft_runner.commands.words import parser
from sft_runner.preview import look


def main(arguments: list[str]) -> int:
    """Show what a few rows become: as they were read, as messages, and as tokens with those that are trained marked."""
    options = parser("preview", main, _HELP)
    options.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for the pipeline")
    options.add_argument("--rows", type=int, default=3, metavar="N", help="how many rows to show (3)")
    options.add_argument("--whole", action="store_true", help="do not shorten long texts")
    words = options.parse_intermixed_args(arguments)
    look(words.overrides, words.rows, words.whole)
    return 0


_HELP = """\
Trained tokens are green; without colours (in a file, or with NO_COLOR=1) they stand between ⟦ and ⟧. Below the rows
stand the sums of the first rows of each source: formats, lengths, what would be left out and why, and warnings.
Nothing is written, and no weights are loaded.

  sft-runner preview recipe=quickstart
  sft-runner preview recipe=qa data.path=my.jsonl --rows 10
  sft-runner preview recipe=qa data.path=my.jsonl model=tiny        # while your own model is not here yet
  sft-runner preview recipe=qa data.path=my.jsonl 'data.columns={question: title, answer: body}'
  sft-runner preview recipe=qa data.path=my.jsonl data.train_on=all"""
