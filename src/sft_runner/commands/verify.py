"""`sft-runner verify`: whether a run is what it was."""

import json
from pathlib import Path

from sft_runner.commands.words import add_output_dir, parser
from sft_runner.report.record import find
from sft_runner.review.verify import verify
from sft_runner.review.verify.finding import CHANGED, DAMAGE, UNCHECKED
from sft_runner.review.verify.text import Meter, text
from sft_runner.runs import CONFIG, PLAN, STATE
from sft_runner.seal import SEAL


def main(arguments: list[str]) -> int:
    """Hash every byte of a run again, from its data to the served model, and hold it against what was written."""
    options = parser("verify", main, _HELP)
    options.add_argument("run", metavar="RUN", help="a run folder, a name, NAME/TIME, or how a time begins")
    add_output_dir(options)
    options.add_argument("--json", action="store_true", help="for programs")
    options.add_argument("--strict", action="store_true", help="1 also for what was not checked or has changed since")
    words = options.parse_args(arguments)
    meter = Meter()
    try:
        found = verify(_folder(words.run, Path(words.output_dir).expanduser()), meter)
    finally:
        meter.close()
    told = json.dumps(found.as_json(), indent=1) if words.json else text(found)
    print(told.encode("utf-8", "replace").decode())  # names of files may be no Unicode
    bad = (DAMAGE, CHANGED, UNCHECKED) if words.strict else (DAMAGE,)
    return 1 if any(found.of(kind) for kind in bad) else 0


def _folder(word: str, output_dir: Path) -> Path:
    """The run folder that a user means; one whose `run.json` is damaged or gone counts too. Raises `UserError`."""
    for place in (Path(word).expanduser(), output_dir / "runs" / word.strip("/")):
        if place.absolute().parent.parent.name == "runs" and any((place / name).is_file() for name in _FILES):
            return place.resolve()
    if word.strip() and "/" not in word and word not in (".", ".."):
        folders = sorted((output_dir / "runs" / word).glob("*/"), key=lambda path: path.name)
        if folders:
            return folders[-1].resolve()
    return find(word, output_dir).folder.resolve()


_FILES = (STATE, SEAL, PLAN, CONFIG)
_HELP = """\
Damage comes first, with the file, what was expected and what was found; then a line for each stage, for the run folder,
and for the data and the base model that it was made from. Those may have changed since: that is said, and is no damage.
A run that was killed has no seal: what could not be checked is said.

Exit code: 0 nothing is damaged, 1 damage was found, 2 there is no such run. With --strict it is 1 too where something
was not checked or has changed since.

  sft-runner verify quickstart
  sft-runner verify quickstart --json"""
