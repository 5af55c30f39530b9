"""`sft-runner metrics`: what answers can be measured by."""

import json
from dataclasses import asdict

from sft_runner.commands.words import parser
from sft_runner.errors import UserError
from sft_runner.evaluation import names


def main(arguments: list[str]) -> int:
    """List the metrics that evaluate.metrics and evaluate.gates may name: what each means, and which way is better."""
    options = parser("metrics", main)
    options.add_argument("--json", action="store_true", help="a list, for programs")
    words = options.parse_args(arguments)
    found: list[names.Named] = []
    broken: list[str] = []
    for name in names.known():
        try:
            found.append(names.find(name, ""))
        except UserError as error:
            broken.append(f"{name:<14}  {error.message}")
    if words.json:
        print(json.dumps([asdict(metric) | {"always": metric.name in names.ALWAYS} for metric in found], indent=1))
        return 0
    for metric in found:
        better = "less is better" if metric.lower_is_better else "more is better"
        when = "always measured" if metric.name in names.ALWAYS else f"by {metric.source}" if metric.source else ""
        print(f"{metric.name:<14}  {metric.help} ({better}{f', {when}' if when else ''})")
    print("\n".join(broken) + "\n" if broken else "", end="")
    print(f"A package of your own adds one by an entry point of the group {names.GROUP}: see docs/evaluation.md")
    return 0
