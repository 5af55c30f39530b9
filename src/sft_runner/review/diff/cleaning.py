"""What a side says without the folders of the command, and without this machine's environment and home."""

import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sft_runner.config.sources import PACKAGE
from sft_runner.review.diff.answers import Answer, Place

SHORTEST = 4
"""Characters from which on the value of a variable is looked for everywhere; a shorter one is no secret."""
_READ = re.compile(r"oc\.env:\s*(\w+|\$)")


def read_by(texts: Iterable[str]) -> dict[str, str]:
    """The variables that `${oc.env:NAME}` in these texts reads, with their values."""
    names = {name for text in texts for name in _READ.findall(text)}
    if "$" in names:  # its name is an interpolation: any variable may be read
        return dict(os.environ)
    return {name: os.environ[name] for name in names if name in os.environ}


def cleaned(answer: Answer, place: Place, variables: Mapping[str, str]) -> Answer:
    """The answer with paths as those of the project, with `~` for the home, and with variables unresolved."""
    told = _renamed(answer, place, variables)
    for case in told["cases"].values():
        for key, raw in case.get("environment", {}).items():
            if key in case.get("settings", {}):
                case["settings"][key][0] = raw
            for stage in case.get("stages", {}).values():
                if key in stage["config"]:
                    stage["config"][key] = raw
    return told


def _renamed(answer: Answer, place: Place, variables: Mapping[str, str]) -> Answer:
    up = os.path.relpath(place.top, place.folder)
    steps = [
        (f"{place.folder}/", ""),
        (str(place.folder), "."),
        (f"{place.top}/", "" if up == "." else f"{up}/"),
        (str(place.root), ""),
    ]
    if place.package == PACKAGE:
        steps += [(f"{PACKAGE.parent}/", "")]
        steps += [(f"{PACKAGE.parents[1]}/", "")] if (PACKAGE.parents[1] / "pyproject.toml").is_file() else []
    home = str(Path.home())
    secret = [(value, f"${{oc.env:{name}}}") for name, value in variables.items() if name != "HOME"]
    steps += sorted((step for step in secret if len(step[0]) >= SHORTEST), key=lambda step: -len(step[0]))
    below_home = re.compile(rf"{re.escape(home)}(?![\w.-])") if home != "/" else None

    @cache
    def named(text: str) -> str:
        for path, name in steps:
            text = text.replace(path, name)
        return below_home.sub("~", text) if below_home else text

    def told(value: Any) -> Any:
        if isinstance(value, str):
            return named(value)
        if isinstance(value, dict):
            return {told(key): told(part) for key, part in value.items()}
        return [told(part) for part in value] if isinstance(value, list | tuple) else value

    renamed: Answer = told(answer)
    return renamed
