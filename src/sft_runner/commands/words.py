"""What the commands beside the pipeline have in common: how they read their words, and write the files of options."""

import argparse
import inspect
from collections.abc import Callable
from pathlib import Path

from sft_runner.disk import replace
from sft_runner.errors import MachineError, UserError


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


def write(option: str, word: str, data: bytes) -> None:
    """Write the file that an option such as `--html` names. Raises `UserError`."""
    path = Path(word).expanduser().absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, data)
    except (OSError, MachineError) as error:
        why = getattr(error, "strerror", None) or str(error).rpartition(": ")[2]
        raise UserError(f"{option} {word}: {why}", "name a file in a folder that can be written") from error
