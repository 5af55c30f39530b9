"""Where in a file that lies what composing, settling and planning tell of a run."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sft_runner.config.sources import shown
from sft_runner.review.lint.composition import Composition
from sft_runner.review.lint.finding import Remark
from sft_runner.review.lint.subject import CHOICE, MAIN, RECIPE, Subject

OWN, COMMAND, ELSEWHERE = "own", "command", "elsewhere"
"""A key of the file, the command in its header, and what neither of them says."""
MODELS = ("lora.target_modules", "lora.target_parameters")
"""Keys that depend on the model: of a choice it is not known which one it is for."""


@dataclass(frozen=True)
class Placed:
    """A remark with who is at fault."""

    remark: Remark
    """What is told, and the line."""
    by: str
    """`OWN`, `COMMAND` or `ELSEWHERE`."""


def place(subject: Subject, composition: Composition, message: str, hint: str = "") -> Placed | None:
    """The line of the first key in the message that the file says, else of the command, else of what brings it in.

    None where a choice is not to blame: what clashes with it is a default.
    """
    message, line = subject.placed(message)
    if line is None:
        line = interpolating(subject, message)
    if line is not None:
        return Placed(Remark(line, message, hint), OWN)
    if (other := re.match(r"(.+?), line (\d+): ", message)) and Path(other[1]).is_file():
        named = ((Path(other[1]).absolute(), int(other[2])),)
        return Placed(Remark(_brought_in(subject, named), message[other.end() :], hint, "", named), ELSEWHERE)
    keys = list(dict.fromkeys(composition.keys(message)))
    own = [key for key in keys if key in subject.chosen or _says(subject, composition, key)]
    if subject.kind == MAIN or subject.kind == CHOICE and composition.found is None:  # with the defaults it composes
        line = _line(subject, own[0], message) if own else subject.line_of(("defaults",))
        return Placed(Remark(line, message, hint), OWN)
    if subject.kind != RECIPE:
        others = [key for key in keys if key not in own and composition.origin(key)]
        if not own or others or set(keys) & set(MODELS):
            return None
    typed = [key for key in keys if composition.typed(key)] or ([] if own else composition.named(message))
    for key in own:
        if key not in typed:
            return Placed(Remark(_line(subject, key, message), message, hint, key.rpartition(".")[2]), OWN)
    if typed:
        return Placed(Remark(subject.line_of_header("command"), message, hint, typed[0]), COMMAND)
    origins = tuple(place for key in keys if (place := composition.origin(key)))
    return Placed(Remark(_brought_in(subject, origins), message, hint, "", origins), ELSEWHERE)


def interpolating(subject: Subject, message: str) -> int | None:
    """The line whose value is filled in from what a message says is not there; None where there is none."""
    missing = re.search(r"Interpolation key '([^']+)'|Environment variable '([^']+)'", message)
    name = missing and (missing[1] or missing[2])
    uses = re.compile(rf"\$\{{[^}}]*(?<![\w.]){re.escape(name)}(?![\w.])") if name else None
    values = subject.settings.values() if uses else ()
    return next((subject.line_of(path) for path, value in values if uses and uses.search(str(value))), None)


def _says(subject: Subject, composition: Composition, key: str) -> bool:
    """Whether the file says this key."""
    if composition.found is None:
        return any(_below(said, key) for said in subject.settings)
    return composition.said(key, subject.path)


def _line(subject: Subject, key: str, message: str) -> int:
    """The line of a key, of one inside it that the message names, or of the choice in a group."""
    if key in subject.chosen:
        return subject.chosen[key][0]
    inside = [said for said in subject.settings if said.startswith(f"{key}.")]
    if named := [said for said in inside if re.search(rf"(?<![\w.]){re.escape(said)}(?![\w.])", message)]:
        return subject.line_of(subject.settings[max(named, key=len)][0])
    return subject.line_of(next((path for said, (path, _) in subject.settings.items() if _below(said, key)), ()))


def _below(said: str, key: str) -> bool:
    return said == key or said.startswith(f"{key}.")


def _brought_in(subject: Subject, origins: Sequence[tuple[Path, int]]) -> int:
    """The line of `defaults:` that brings one of the other files in, else that of the command."""
    for path, _ in origins:
        if path.parent.name in subject.chosen:
            return subject.chosen[path.parent.name][0]
        for number, line in enumerate(subject.lines, 1):
            if line.split("#")[0].strip() in (f"- {path.stem}", f'- "{path.stem}"'):
                return number
    return subject.line_of_header("command")


def told(path: Path, line: int) -> str:
    """`recipes/code.yaml, line 7`."""
    return f"{shown(path)}, line {line}"
