"""`sft-runner explain`: where a value comes from, what it means, and what else is possible."""

import json
import sys
from collections.abc import Iterable

from sft_runner.commands.words import parser
from sft_runner.config import values
from sft_runner.config.layers import layers
from sft_runner.config.mistakes import in_value
from sft_runner.config.sources import groups
from sft_runner.errors import UserError
from sft_runner.review.explain import screen
from sft_runner.review.explain.group import group
from sft_runner.review.explain.setting import settings


def main(arguments: list[str]) -> int:
    """Say where a value of a run comes from, the layer that holds first, what it means, what else is possible, and
    which stages run again when it changes. KEY is a setting, a part of the settings or a group of files."""
    options = parser("explain", main, _HELP)
    options.add_argument("key", metavar="KEY", help="such as lora.r, lora, hardware, evaluate.gates.loss")
    options.add_argument("words", nargs="*", metavar="WORD", help="a command line: recipe=code hardware=rtx3060")
    options.add_argument("--json", action="store_true", help="for programs")
    if not any(not word.startswith("-") for word in arguments) and not {"-h", "--help"} & set(arguments):
        raise UserError("explain wants a KEY", "such as lora.r, lora or hardware; sft-runner keys lists all")
    asked = options.parse_intermixed_args(arguments)
    key: str = asked.key
    known = values.defaults()
    is_group, is_part = key in groups(), any(name.startswith(f"{key}.") for name in known)
    below = values.inside(key)
    if not (key in known or is_group or is_part or below):
        raise _unknown(key)
    found = layers(asked.words)
    if key in known or below:
        one = next(settings([key], found))
        if below and one.value is None and not one.said:
            names = [name for name in found.inside if name.startswith(f"{below}.")]
            hint = f"known: {', '.join(names)}" if names else f"{below} is empty here"
            raise UserError(f"nothing is said of '{key}' in this run", hint)
        _tell(screen.plain_setting(one) if asked.json else screen.of_setting(one))
        return 0
    if asked.json:
        names = [name for name in known if name.startswith(f"{key}.")] if is_part else []
        told = screen.plain_group(group(key, found)) if is_group else {"part": key}
        _tell({**told, "settings": [screen.plain_setting(one) for one in settings(names, found)]})
        return 0
    if is_group:
        _tell(screen.of_group(group(key, found)))
    if is_group and is_part:
        print()
    if is_part:
        _tell(screen.of_part(key, found))
    return 0


def _unknown(key: str) -> UserError:
    """A key that does not exist, with the one that was meant."""
    return next(iter(in_value(key, "", "")), UserError(f"key '{key}' does not exist", "sft-runner keys lists all"))


def _tell(told: "dict[str, object] | Iterable[tuple[str, str]]") -> None:
    """Print values as JSON, or lines, in colour where there is a terminal."""
    if isinstance(told, dict):
        print(json.dumps(told, indent=1, ensure_ascii=False))
        return
    if not sys.stdout.isatty():
        print("\n".join(text for _, text in told))
        return
    from rich.console import Console

    console = Console(highlight=False)
    for style, text in told:
        console.print(text, style=style, markup=False, soft_wrap=True)


_HELP = """\
The words are those of a run; without any it is the defaults that are explained. With free names
(evaluate.gates.loss.min_gain) the name's own line is told. Exit code: 0; 2 for a key or words that are wrong.

  sft-runner explain lora.r recipe=code hardware=rtx3060
  sft-runner explain hardware recipe=quickstart        # the choice, and the others
  sft-runner explain lora recipe=qa method=dora        # every setting of a part
  sft-runner explain evaluate.gates.loss recipe=qa
  sft-runner explain train.learning_rate --json"""
