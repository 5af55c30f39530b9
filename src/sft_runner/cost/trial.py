"""A command with words appended, settled as it would be, but without Hydra: what does it take, if it runs at all?"""

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any, get_type_hints

import yaml

from sft_runner.config import conflicts, rules
from sft_runner.config.choices import choices, lay_over, same_keys
from sft_runner.config.run import Run
from sft_runner.config.schema import Config, build
from sft_runner.config.words import key_of
from sft_runner.errors import SftError, raise_all
from sft_runner.model import continuing
from sft_runner.runs import adapter_of

GROUPS = ("model", "hardware", "method")
"""Groups whose files can be chosen here; those of `method` lie anywhere in the configuration."""


def tried(run: Run, words: str) -> Config | None:
    """The settled configuration of `run` with `words` behind its command, such as `hardware=l4 lora.r=4`; None where
    it would be refused for another reason than memory."""
    said = {key_of(text) for text in run.overrides}
    asked = run.composed or run.config
    for word in words.split():
        key, _, value = word.partition("=")
        if key in GROUPS:
            chosen = _file(asked, key, choices(key).get(run.choices.get(key, "")))
            asked = _instead(asked, chosen, _file(asked, key, choices(key)[value]), said)
        else:
            asked = _with(asked, key.split("."), value)
            said.add(key)
    return filled(asked, run.config.name)


def filled(asked: Config, name: str) -> Config | None:
    """A composed configuration with its open values filled in, as by `rules.settle`; None where it has mistakes."""
    try:
        raise_all(list(conflicts.of_values(asked)))
        earlier = adapter_of(asked)
        config, _ = rules.fill(asked, name, continuing.shape_of(earlier) if earlier else None)
        raise_all([*conflicts.between_values(config), *continuing.check(config, earlier)])
    except SftError:
        return None
    return config


def composed(values: Mapping[str, Any]) -> Config:
    """The schema's defaults with nested values laid over them."""
    found = asdict(Config())
    lay_over(found, values)
    config: Config = build(Config, found)
    return config


def _file(asked: Config, group: str, values: Mapping[str, Any] | None) -> Config:
    """The defaults with one file of a group laid over them; None stands for a file that is not known, such as what
    `hardware=auto` found: then all that such a file can say is taken to come from it."""
    if values is None:
        values = {}
        whole = asdict(asked) if group == "method" else asdict(asked)[group]
        for other in choices(group).values():
            lay_over(values, same_keys(whole, other))
    return composed(values if group == "method" else {group: values})


def _instead(asked: Any, was: Any, now: Any, said: set[str], prefix: str = "") -> Any:
    """`asked` with the values of file `now` in place of those of file `was`, but for what a recipe or the command line
    says (`said`: the keys of the latter)."""
    found: dict[str, Any] = {}
    for name in (item.name for item in fields(asked)):
        mine, old, new = (getattr(part, name) for part in (asked, was, now))
        if is_dataclass(mine):
            found[name] = _instead(mine, old, new, said, f"{prefix}{name}.")
        else:
            found[name] = new if mine == old and prefix + name not in said else mine
    return replace(asked, **found)


def _with(part: Any, path: list[str], text: str) -> Any:
    """A dataclass with another value, as the command line writes it, at a path of names."""
    name, *rest = path
    if rest:
        return replace(part, **{name: _with(getattr(part, name), rest, text)})
    return replace(part, **{name: text if get_type_hints(type(part))[name] is str else yaml.safe_load(text)})
