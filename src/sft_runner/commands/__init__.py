"""The commands beside the pipeline: `sft-runner preview recipe=code`. Each is a module of its own with a `main`."""

from collections.abc import Callable
from importlib import import_module

LOOK = ("recipes", "keys", "explain", "show", "preview", "fits", "metrics")
"""What tells of recipes and settings before anything runs."""
REVIEW = ("lint", "diff", "lock", "schema")
"""What checks recipes, and what a change to them does."""
AFTER = ("models", "compare", "report", "record", "verify")
"""What tells of runs."""
COMMANDS = {name: name for name in (*LOOK, *REVIEW, *AFTER)} | {"import": "import_"}
"""Word on the command line -> module here."""


def command(name: str) -> Callable[[list[str]], int]:
    """What runs a command: it takes the words behind its name and returns the exit code."""
    main: Callable[[list[str]], int] = import_module(f"{__name__}.{COMMANDS[name]}").main
    return main
