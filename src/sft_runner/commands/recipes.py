"""`sft-runner recipes`: what can be run."""

from sft_runner.commands.words import parser
from sft_runner.config import sources


def main(arguments: list[str]) -> int:
    """List the recipes, the user's own first."""
    parser("recipes", main).parse_args(arguments)
    for name, recipe in sources.recipes().items():
        told = recipe.error.message if recipe.error else recipe.header.get("goal", "")
        print(f"{name:<14}  {told}")
        if command := recipe.header.get("command"):
            print(f"{'':<14}  {command}")
    return 0
