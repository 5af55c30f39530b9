"""`sft-runner schema`: the JSON schema of recipes and group files, for editors."""

import json
from pathlib import Path

from sft_runner.commands.words import parser, write
from sft_runner.config.json_schema import RECIPE, is_ours, schema
from sft_runner.errors import UserError
from sft_runner.seal import content_of


def main(arguments: list[str]) -> int:
    """Print the JSON schema of a recipe, or of the files in conf/GROUP, so that editors complete and check them."""
    options = parser("schema", main, _HELP)
    options.add_argument("group", nargs="?", default=RECIPE, metavar="GROUP", help="recipe, hardware, model, data ...")
    options.add_argument("--write", metavar="FILE", help="write it there instead")
    words = options.parse_args(arguments)
    text = json.dumps(schema(words.group), indent=1, ensure_ascii=False) + "\n"
    if not words.write:
        print(text, end="")
        return 0
    _may_be_written(Path(words.write).expanduser().absolute(), words.write)
    write("--write", words.write, text.encode())
    print(words.write)
    return 0


def _may_be_written(path: Path, written: str) -> None:
    """A schema, and nothing else of the user's. Raises `UserError`."""
    hint = "name another file, such as recipes/recipe.schema.json"
    if path.suffix != ".json":
        raise UserError(f"--write {written}: a schema is a .json file", hint)
    try:
        if path.exists() and not is_ours(content_of(path)):
            raise UserError(f"--write {written}: it is there, and is no schema of sft_runner", hint)
    except OSError as error:
        raise UserError(f"--write {written}: {error.strerror}", hint) from error


_HELP = """\
Without GROUP it is the schema of a recipe. Write it beside your recipes, and name it in their first line:

  sft-runner schema --write recipes/recipe.schema.json
  # yaml-language-server: $schema=recipe.schema.json

The models, presets and so on that it suggests are the shipped ones and those in ./conf.

  sft-runner schema
  sft-runner schema hardware --write conf/hardware/hardware.schema.json"""
