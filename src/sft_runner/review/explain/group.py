"""All there is to say about one group of files, such as `hardware`, in one run."""

from dataclasses import dataclass

from sft_runner.config.layers import Layers, Place
from sft_runner.config.sources import choice, options


@dataclass(frozen=True)
class Group:
    """A group and its choices."""

    name: str
    """Its name."""
    chosen: str
    """The choice, of several all of them; empty without one."""
    place: Place | None
    """Where it is made; None where nobody makes one."""
    known: bool
    """Whether it is known where choices are made."""
    reason: str
    """What `hardware=auto` took, and why; empty otherwise."""
    choices: dict[str, str]
    """Every choice with the first line of its comment."""


def group(name: str, found: Layers) -> Group:
    """What there is to say about the group `name`."""
    used = [file.partition("/")[2] for file in found.files if file.startswith(f"{name}/")]
    chosen = found.choices.get(name) or used
    names = chosen if isinstance(chosen, list) else [chosen]
    choices = {known: _comment(name, known) for known in options(name)}
    preset = found.config.hardware
    reason = f"{preset.name}: {preset.chosen}" if name == "hardware" and preset.chosen else ""
    return Group(name, ", ".join(map(str, names)), found.chosen.get(name), bool(found.files), reason, choices)


def _comment(group: str, name: str) -> str:
    """What the first line of a file's comment says; of a recipe, its goal."""
    file = choice(group, name)
    if file is None:
        return "looks at this machine" if (group, name) == ("hardware", "auto") else ""
    if file.error:
        return f"broken: {file.error.message}"
    if "goal" in file.header:
        return file.header["goal"]
    return next((line for line in file.comment.splitlines() if line and not line.startswith("@")), "")
