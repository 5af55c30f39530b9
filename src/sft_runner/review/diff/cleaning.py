"""What a side says without the folders of the command, and without this machine's environment and home."""

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config, flatten
from sft_runner.config.sources import PACKAGE
from sft_runner.review.diff.answers import Answer, Place
from sft_runner.review.diff.side import FILLED
from sft_runner.stages import STAGES

SHORTEST = 4
"""Characters from which on the value of a variable is looked for; a shorter one is no secret."""
ORDINARY = 12
"""A word or a number below so many characters is looked for as a whole one only: `data` is no part of `database`."""
_READ = re.compile(r"oc\.env\s*:[\s\\'\"]*(\w+|\$)")
"""Quotes around the name may be those of YAML too: doubled, or behind a backslash."""


def read_by(texts: Iterable[str]) -> dict[str, str]:
    """The variables that `${oc.env:NAME}` in these texts reads, with their values."""
    names = {name for text in texts for name in _READ.findall(text)}
    if "$" in names:  # its name is an interpolation: any variable may be read
        return dict(os.environ)
    return {name: os.environ[name] for name in names if name in os.environ}


def cleaned(answer: Answer, place: Place, variables: Mapping[str, str]) -> Answer:
    """The answer with paths as those of the project, with `~` for the home, and with variables unresolved.

    Values of variables are masked where a value is told: in settings, errors, problems, and paths of data. Names of
    recipes, settings, stages and files stay as they are, also where a variable holds the same word.
    """
    home = str(Path.home())
    secret = {name: value for name, value in variables.items() if name != "HOME" and len(value) >= SHORTEST}
    in_values, in_texts = _masking(secret, ()), _masking(secret, _public())
    paths = _paths(place)
    below_home = re.compile(rf"{re.escape(home)}(?![\w.-])") if home != "/" else None

    @cache
    def named(text: str) -> str:
        for path, name in paths:
            text = text.replace(path, name)
        return text

    def without_home(text: str) -> str:
        return below_home.sub("~", text) if below_home else text

    told: Answer = _each(answer, named)
    for case in told["cases"].values():
        _mask(case, in_values, in_texts)
    renamed: Answer = _each(told, cache(without_home))
    return renamed


def _mask(case: dict[str, Any], in_values: Callable[[str], str], in_texts: Callable[[str], str]) -> None:
    """Mask what one case tells of values."""
    raw = case.get("environment", {})
    for key, setting in case.get("settings", {}).items():
        own_name = key == "name" and setting[0] == case["recipe"]  # the file is called so: nothing is kept secret
        setting[0] = raw[key] if key in raw else setting[0] if own_name else _each(setting[0], in_values, names=False)
        if setting[1].startswith(FILLED):  # else it is a file and a line
            setting[1] = in_texts(setting[1])
    for stage in case.get("stages", {}).values():
        config = stage["config"]
        stage["config"] = {key: raw.get(key, _each(value, in_values, names=False)) for key, value in config.items()}
    case["error"], case["problem"] = in_texts(case["error"]), in_texts(case["problem"])
    for kind in ("absent", "data"):
        case[kind] = _each(case.get(kind, {}), in_values, names=kind == "data")


def _masking(secret: Mapping[str, str], public: Collection[str]) -> Callable[[str], str]:
    """What puts `${oc.env:NAME}` where the value of a variable is, the longest first, `public` words left out."""
    names: dict[str, str] = {}
    for name, value in sorted(secret.items(), key=lambda one: (-len(one[1]), one[0])):
        if value not in public:
            names.setdefault(value, name)
    if not names:
        return lambda text: text
    looked_for = re.compile("|".join(map(_form, names)))
    return cache(lambda text: looked_for.sub(lambda found: f"${{oc.env:{names[found[0]]}}}", text))


def _form(value: str) -> str:
    """How a value is looked for."""
    if len(value) < ORDINARY and value.isalpha():
        return rf"(?<![^\W\d_]){re.escape(value)}(?![^\W\d_])"
    if len(value) < ORDINARY and value.isdigit():
        return rf"(?<!\d){re.escape(value)}(?!\d)"
    return re.escape(value)


@cache
def _public() -> frozenset[str]:
    """Names of settings and stages, and the words in them: an error tells which one is meant."""
    return frozenset({*STAGES, *(part for key in flatten(Config()) for part in (key, *key.split(".")))})


def _paths(place: Place) -> list[tuple[str, str]]:
    """Folders of the command, each with what it is in the project."""
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
    return steps


def _each(value: Any, change: Callable[[str], str], names: bool = True) -> Any:
    """A value with every text in it changed, with `names` those of mappings too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key) if names else key: _each(part, change, names) for key, part in value.items()}
    return [_each(part, change, names) for part in value] if isinstance(value, list | tuple) else value
