"""Which program a file was written for, and what each of its keys becomes."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_runner.errors import UserError
from sft_runner.importing import axolotl, llamafactory, trl
from sft_runner.importing.draft import Draft
from sft_runner.importing.source import Source


@dataclass(frozen=True)
class Program:
    """One that such files are written for."""

    name: str
    """As it is written."""
    known: Callable[[], Collection[str]]
    """All of its keys."""
    marks: Callable[[dict[str, Any]], int]
    """How much the keys of a file look like its own."""
    translate: Callable[[Draft, Path, int, list[Path]], None]
    """Every key into one list."""


PROGRAMS = {
    "axolotl": Program(axolotl.NAME, lambda: axolotl.KNOWN, axolotl.marks, axolotl.translate),
    "llamafactory": Program(llamafactory.NAME, llamafactory.known, llamafactory.marks, llamafactory.translate),
    "trl": Program(trl.NAME, trl.known, trl.marks, trl.translate),
}
"""The value of `--from` -> the program."""


def recognised(source: Source) -> str:
    """The program whose keys a file has. Raises `UserError` where that is not clear."""
    marks = {name: program.marks(source.values) for name, program in PROGRAMS.items()}
    best = max(marks.values())
    names = [name for name, count in marks.items() if count == best]
    if best < 2:
        shown = ", ".join(list(source.values)[:8])
        raise UserError(
            f"{source.path}: looks like no configuration of axolotl, LLaMA-Factory or TRL; its keys are {shown}",
            "say which it is with --from axolotl, --from llamafactory or --from trl",
        )
    if len(names) > 1:
        hint = "say which with " + " or ".join(f"--from {name}" for name in names)
        raise UserError(f"{source.path}: may be of {' or of '.join(PROGRAMS[name].name for name in names)}", hint)
    return names[0]


def translated(source: Source, name: str, devices: int = 1, folders: Sequence[Path] = ()) -> Draft:
    """What a file becomes, with every key of it in exactly one list."""
    program = PROGRAMS[name]
    draft = Draft(program.name, source.keys())
    program.translate(draft, source.path, devices, list(folders))
    draft.rest(program.known())
    draft.sort()
    return draft
