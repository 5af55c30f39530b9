"""`sft-runner import`: a configuration of another program becomes a recipe."""

import argparse
import json
import os
import sys
from pathlib import Path

from sft_runner.commands.words import parser
from sft_runner.errors import UserError
from sft_runner.importing import recipe, telling
from sft_runner.importing.programs import PROGRAMS, recognised, translated
from sft_runner.importing.source import read
from sft_runner.importing.training import counted


def main(arguments: list[str]) -> int:
    """Write a recipe that says what a file of axolotl, LLaMA-Factory or TRL says, and list what became of each key."""
    options = parser("import", main, _HELP)
    options.add_argument("file", metavar="FILE", help="a YAML file, for LLaMA-Factory also JSON")
    options.add_argument("-o", "--output", metavar="RECIPE", help="recipes/NAME.yaml; open: named after FILE")
    options.add_argument("--from", dest="program", choices=[*PROGRAMS], help="whose file it is; open: seen by its keys")
    options.add_argument("--devices", type=_count, default=1, metavar="N", help="cards that it was trained on (1)")
    options.add_argument("--dataset-dir", action="append", default=[], metavar="DIR", help="where dataset_info.json is")
    options.add_argument("--force", action="store_true", help="replace a recipe that is there")
    options.add_argument("--json", action="store_true", help="the lists, for programs")
    words = options.parse_args(arguments)
    path = Path(words.file).expanduser()
    source = read(path)
    program = words.program or recognised(source)
    target = _target(words.output, path)
    draft = translated(source, program, words.devices, [Path(folder).expanduser() for folder in words.dataset_dir])
    refused = recipe.write(draft, target, path, source.comment, words.force)
    if words.json:
        found = telling.as_json(draft, source.lines, path, target, program, refused)
        print(json.dumps(found, indent=1, ensure_ascii=False, default=str))
    else:
        print(telling.report(draft, source.lines, path, target, refused))
        name = recipe.quoted(target.stem)
        left = (
            f"{counted(len(draft.todo), 'thing')} to do before it can run as there; then look"
            if draft.todo
            else "look first"
        )
        print(f"\n{left}: sft-runner preview {name}   and   python -m sft_runner {name} dry_run=true")
    if refused:
        print(f"error: {target} is written, and would be refused: {refused}", file=sys.stderr)
    return 2 if refused else 0


def _target(output: str | None, path: Path) -> Path:
    """Where the recipe goes. Raises `UserError` where that is no folder of recipes."""
    if os.path.lexists("recipes") and not Path("recipes").is_dir():
        raise UserError(
            "recipes: is no folder, and recipes are found there", "move it away, or mend where it points to"
        )
    if output is None:
        return Path("recipes", f"{recipe.safe_name(path.stem)}.yaml")
    target = Path(output).expanduser()
    if target.parent.resolve() != (Path.cwd() / "recipes").resolve() or target.suffix != ".yaml":
        raise UserError(f"-o {output}: recipes are found in ./recipes", f"write -o recipes/{target.stem}.yaml")
    return target


def _count(text: str) -> int:
    """A number of cards, from 1 on."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is no number of cards")
    return int(text)


_HELP = """\
Each key of FILE ends in one list: carried over (old key -> ours), carried over with another meaning, without effect
here, not carried over (with what to do), or unknown. Where the other program takes something else than is taken here
for what FILE leaves open, the recipe says it. The recipe is composed on the CPU; one that would be refused is written
all the same, told, and ends with exit code 2. Nothing of FILE is run.

  sft-runner import --help
  sft-runner import qlora.yml
  sft-runner import llama3_lora_sft.yaml --dataset-dir data -o recipes/identity.yaml
  sft-runner import sft.yaml --from trl --devices 8 --json | jq '.unknown[].key'"""
