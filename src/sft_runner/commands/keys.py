"""`sft-runner keys`: every setting with its default and its meaning."""

from sft_runner.commands.words import parser
from sft_runner.config.glossary import described
from sft_runner.config.schema import Config
from sft_runner.errors import suggestion


def main(arguments: list[str]) -> int:
    """List every key, or those of one part, with its default and its meaning."""
    options = parser("keys", main)
    options.add_argument("part", nargs="?", default="", help="such as lora, train.learning_rate")
    part = options.parse_args(arguments).part
    shown = [
        entry for entry in described(Config) if entry[0] == part or entry[0].startswith(f"{part}." if part else "")
    ]
    for key, default, choices, text in shown:
        print(f"{key + '=' + default:<46}  {text}{f' [{choices}]' if choices else ''}")
    if not shown:
        every = [key for key, *_ in described(Config)]
        parts = dict.fromkeys(key.split(".")[0] for key in every)
        close = suggestion(part, every)
        print(f"no key '{part}'; {close if close.startswith('did you') else 'parts: ' + ', '.join(parts)}")
    return 0 if shown else 2
