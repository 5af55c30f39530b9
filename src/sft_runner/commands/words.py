"""What the commands beside the pipeline have in common: how they read their words."""

import argparse
import inspect
from collections.abc import Callable


def parser(name: str, main: Callable[[list[str]], int], examples: str = "") -> argparse.ArgumentParser:
    """The parser of `sft-runner NAME`; its help is the command's docstring, with `examples` below as they are."""
    return argparse.ArgumentParser(
        prog=f"sft-runner {name}",
        description=inspect.getdoc(main),
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter if examples else argparse.HelpFormatter,
    )


def add_output_dir(options: argparse.ArgumentParser) -> None:
    """`--output-dir`, where a command looks for runs."""
    options.add_argument("--output-dir", default="outputs", help="where the runs are")
