"""`sft-runner fits`: which method and model fit which card."""

import json
from dataclasses import asdict

from sft_runner.commands.words import parser
from sft_runner.config.choices import choices
from sft_runner.cost import survey
from sft_runner.errors import UnknownName


def main(arguments: list[str]) -> int:
    """Show what fits: every shipped method on every card with every model, or those that are named."""
    options = parser("fits", main)
    options.add_argument("model", nargs="*", help="such as qwen2.5-7b")
    options.add_argument("--hardware", action="append", default=[], metavar="NAME", help="such as rtx3060")
    options.add_argument("--method", action="append", default=[], metavar="NAME", help="such as qlora")
    options.add_argument("--json", action="store_true", help="a list, with the reason of each refusal")
    words = options.parse_intermixed_args(arguments)
    for group in ("model", "hardware", "method"):
        for name in getattr(words, group):
            if name not in choices(group):
                raise UnknownName(group, name, choices(group))
    pairs = list(survey.survey(words.model, words.hardware, words.method))
    print(json.dumps([asdict(pair) for pair in pairs], indent=1) if words.json else "\n".join(survey.table(pairs)))
    return 0
