"""`sft-runner record`: the measured result of a run, in a table beside its recipe."""

import sys
from pathlib import Path

from sft_runner.commands.words import add_output_dir, parser
from sft_runner.config.sources import shown
from sft_runner.errors import MachineError, UserError, raise_all
from sft_runner.fingerprint import Hashes
from sft_runner.report.record import find
from sft_runner.review.record import cells, header
from sft_runner.review.record.recording import Recorded, recorded
from sft_runner.review.record.table import COLUMNS, Row, parsed, results_of
from sft_runner.review.record.writing import write


def main(arguments: list[str]) -> int:
    """Write the measured result of finished runs into recipes/NAME.results.md, beside their recipe."""
    options = parser("record", main, _HELP)
    options.add_argument("runs", nargs="+", metavar="RUN", help="a run folder, a name, NAME/TIME, or how a time begins")
    add_output_dir(options)
    options.add_argument("--recipe", metavar="FILE", help="the recipe that they belong to, where it is not their own")
    options.add_argument("--print", action="store_true", dest="shown", help="show the rows and write nothing")
    options.add_argument("--header", action="store_true", help="write the line 'result:' of the recipe's header too")
    options.add_argument(
        "--force",
        action="store_true",
        help="also a damaged run and what the recipe does not make any more, marked; and over a newer row",
    )
    words = options.parse_args(arguments)
    folder = Path(words.output_dir).expanduser()
    records = {record.folder: record for record in (find(word, folder) for word in words.runs)}.values()
    hashes, found, errors = Hashes(), list[Recorded](), list[UserError]()
    for record in records:
        try:
            found.append(recorded(record, words.recipe, words.force, hashes))
        except UserError as error:
            errors.append(error)
    hashes.save()
    raise_all(errors)
    found.sort(key=lambda one: one.row.date)
    if words.shown:
        _print(found)
        return 0
    for path in dict.fromkeys(one.path for one in found):
        parsed(results_of(path))  # before anything is written
    for path in dict.fromkeys(one.path for one in found):
        _keep(path, [one for one in found if one.path == path], words.header, words.force)
    return 0


def _print(found: list[Recorded]) -> None:
    print(cells.joined(COLUMNS))
    print(f"|{'|'.join('---' for _ in COLUMNS)}|")
    for one in reversed(found):
        print(cells.joined([one.row.cells[column] for column in COLUMNS]))


def _keep(recipe: Path, found: list[Recorded], with_header: bool, force: bool) -> None:
    """Write what belongs to one recipe; the oldest run comes first."""
    path = results_of(recipe)
    try:
        written = write(path, recipe.stem, [one.row for one in found], force)
    except MachineError as error:
        raise MachineError(error.message, "the row can be had with --print") from error
    left = [row for row, _ in written.kept]
    taken = [one for one in found if one.row not in left]
    for _, newer in written.kept:
        told = f"the row of {newer.date} with the same words is newer and stays"
        print(f"warning: {shown(path)}: {told}; --force replaces it", file=sys.stderr)
    if taken:
        print(f"{shown(path)}: {_told(taken, written.replaced) if written.changed else 'says so already'}")
    whole = [one for one in taken if not one.row.marked]
    line = header.line(whole[-1].record, recipe) if whole else None
    if line and with_header:
        print(f"{shown(recipe)}: {line if header.write(recipe, line) else 'its header says so already'}")
    elif line and header.is_open(recipe):
        print(f"{shown(recipe)}: its header may say (--header writes it)\n{line}")
    elif with_header:
        why = "a model that missed a gate" if whole else "a row that is marked" if taken else "an older run"
        print(f"warning: {shown(recipe)}: {why} is no result for its header", file=sys.stderr)


def _told(found: list[Recorded], replaced: list[Row]) -> str:
    runs = ", ".join(one.record.label for one in reversed(found))
    dates = ", ".join(row.date for row in replaced)
    return f"recorded {runs}{f'; replaced the row of {dates}' if dates else ''}"


_HELP = """\
RUN is a name (its newest run), NAME/TIME, the beginning of a time, or a run folder, as `sft-runner models` shows them.
A row says what was run, base and tuned scores with 95 % intervals, the gates, time, memory, machine, and the
fingerprint that `sft-runner lint` holds against the recipe. A run of the same words on the same machine replaces its
older row; notes above and below the table stay. A run that missed a gate is recorded too, as failed. Refused is a run
that has not finished or was not evaluated, one whose files are not as it wrote them, and one that the recipe does not
make any more without this machine's own conf/local.

  sft-runner record quickstart
  sft-runner record quickstart --print
  sft-runner record qa/20260301-1200 qa/20260302-0915 --header"""
