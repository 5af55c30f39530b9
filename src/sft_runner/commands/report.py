"""`sft-runner report`: the page of a run, written anew."""

from pathlib import Path

from sft_runner.commands.words import add_output_dir, parser
from sft_runner.report import make
from sft_runner.report.record import find


def main(arguments: list[str]) -> int:
    """Write the report of a run anew, from what its folder and its stages say, and print where it is."""
    options = parser("report", main)
    options.add_argument("run", metavar="RUN", help="a run folder, a name, NAME/TIME, or how a time begins")
    add_output_dir(options)
    words = options.parse_args(arguments)
    print(make(find(words.run, Path(words.output_dir).expanduser()))[0])
    return 0
