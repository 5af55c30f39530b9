"""What is wrong with a command line, found before Hydra composes anything.

Hydra stops at the first mistake and speaks of its own internals. Here every override is held against the schema, so
that all mistakes are told at once, in the user's words. Keys and values of files: `file_mistakes.py`.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sft_runner.config.schema import Config, flatten
from sft_runner.config.sources import choice, groups, is_choice, is_group, options
from sft_runner.config.synonyms import meant
from sft_runner.config.values import free, takes
from sft_runner.config.words import parsed
from sft_runner.errors import Mistake, UnknownName, UserError, suggestion


def in_overrides(overrides: Iterable[str], sweep: bool = False) -> list[UserError]:
    """All mistakes of a command line, which names several values for one key only where it is a `sweep`."""
    errors: list[UserError] = []
    for text in overrides:
        try:
            override = parsed(text)
        except (HydraException, ValueError) as error:
            errors.append(UserError(f"{text}: {first_line(error)}", _quoted(text)))
            continue
        if override.is_sweep_override() and not sweep and not text.startswith("hydra."):
            errors.append(UserError(f"{text}: several values are a sweep", _several(override)))
            continue
        errors += _in_override(override)
    return errors


def in_config(config: DictConfig, prefix: str = "") -> Iterator[UserError]:
    """Keys of a composed configuration that the schema does not have (`+key=value` and group files let them in)."""
    kind = OmegaConf.get_type(config)
    if kind is None or not is_dataclass(kind):
        return
    known = [item.name for item in fields(kind)]
    for name in map(str, config):
        key = f"{prefix}{name}"
        if name not in known:
            hint = suggestion(name, known).replace("mean '", f"mean '{prefix}")
            yield UserError(f"key '{key}' does not exist", hint)
        elif isinstance(config._get_node(name), DictConfig) and is_dataclass(OmegaConf.get_type(config, name)):
            yield from in_config(config[name], f"{key}.")


def in_choice(group: str, value: Any, where: str) -> Iterator[UserError]:
    """Mistakes of `group=value`."""
    if group == "tracking" and isinstance(value, list) and "none" in value and len(value) > 1:
        others = ",".join(str(name) for name in value if name != "none")
        hint = f"use tracking=none, or tracking=[{others}]"
        text = f"{where}tracking=[{','.join(map(str, value))}]: none goes with no other tracker"
        yield UserError(text, hint, Mistake.UNKNOWN_CHOICE, group)
    for name in value if isinstance(value, list) else [value]:
        if name is None or "${" in str(name) or is_choice(group, str(name)):
            continue
        text = str(name)
        if group == "model" and "/" in text:
            hint = f"a hub id or a folder is given with model.name={text}"
        elif group == "data" and ("/" in text or "." in text):
            hint = f"a file is given with data.path={text}"
        elif named := _named_by(group, text):
            hint = f"'{named}' is made for it too"
        else:
            yield UnknownName(group, text, options(group), where, Mistake.UNKNOWN_CHOICE, group)
            continue
        yield UserError(f"{where}{group} '{text}' does not exist", hint, Mistake.UNKNOWN_CHOICE, group)


def in_value(key: str, value: Any, where: str) -> Iterator[UserError]:
    """A key that does not exist, or a value of the wrong type."""
    if takes(key, value):
        return
    unknown = list(_in_key(key, where))
    if unknown:
        yield from unknown
        return
    if _open(key) or (isinstance(value, str) and "${" in value):
        return
    settings, said = _settings(), f"{where}{key}={_typed(value)}: "
    if key not in settings and (inside := [name for name in settings if name.startswith(f"{key}.")]):
        if not isinstance(value, dict):
            hint = f"did you mean {inside[0]}={_typed(value)}?" if len(inside) == 1 else f"known: {', '.join(inside)}"
            yield UserError(f"{said}{key} is a group of settings, it takes no value", hint, about=key)
        return
    if isinstance(value, list) and isinstance(settings[key][0], list):
        yield UserError(f"{said}a list or a mapping is no entry of it", _expected(key), about=key)
        return
    try:
        OmegaConf.update(_blank(), key, value, merge=True)
    except OmegaConfBaseException as error:
        usual, hint = settings[key][0], _expected(key)
        why = "it is no mapping" if isinstance(usual, dict) else first_line(error)
        if isinstance(usual, list):
            why, hint = "it is no list", f"use {key}=[{value}]" if isinstance(value, str) and value else hint
        yield UserError(f"{said}{why}", hint, about=key)


def first_line(error: Exception) -> str:
    """The first line of a library's message, without its full stop."""
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def _in_override(override: Override) -> Iterator[UserError]:
    key = override.key_or_group
    if key.split(".")[0].split("/")[0] == "hydra" or override.package is not None:
        return
    given = override.value()
    values = list(given.list) if isinstance(given, ChoiceSweep) else [given]
    if override.is_sweep_override() and not isinstance(given, ChoiceSweep):
        values = []  # range(), glob(): Hydra resolves them
    if override.is_delete():
        return
    if is_group(key) and not isinstance(given, dict):  # of a mapping, its keys are settings of the part
        for value in values:
            if value is None:
                yield UserError(f"{key}=null: a choice has a name", f"leave {key} out, or take it out with ~{key}")
            yield from in_choice(key, value, "")
        return
    if not values:
        yield from _in_key(key, "")
    for value in values:
        yield from in_value(key, _plain(value), "")


def _in_key(key: str, where: str) -> Iterator[UserError]:
    """A key that the schema does not have."""
    settings = _settings()
    if _open(key) or key in settings or any(name.startswith(f"{key}.") for name in settings):
        return
    yield UserError(f"{where}key '{key}' does not exist", _meant(key), Mistake.UNKNOWN_KEY, key)


def _meant(key: str) -> str:
    """The hint for a key that does not exist: the one that is most likely meant."""
    settings = _settings()
    part, _, last = key.rpartition(".")
    siblings = [name.removeprefix(f"{part}.") for name in settings if name.startswith(f"{part}.")] if part else []
    everywhere = [name for name in settings if name.rpartition(".")[2] == last]
    everywhere.sort(key=lambda name: name.startswith("hardware."))  # a cap of the preset is seldom what is meant
    if mended := _mended(key):
        return f"did you mean '{mended}'?"
    if everywhere or meant(last):
        return f"did you mean '{everywhere[0] if everywhere else meant(last)}'?"
    if siblings:
        return suggestion(last, siblings).replace("mean '", f"mean '{part}.")
    tops = sorted({name.split(".")[0] for name in settings} | set(groups()))
    return suggestion(key if not part else key.split(".")[0], tops)


def _mended(key: str) -> str:
    """The key with each misspelt part put right, up to a setting of free names; empty where a part is like none."""
    done = ""
    for name in key.split("."):
        above = f"{done}." if done else ""
        known = sorted({other[len(above) :].split(".")[0] for other in _settings() if other.startswith(above)})
        close = [name] if name in known else get_close_matches(name, known, n=1, cutoff=MISSPELT)
        if not close:
            return ""
        done = above + close[0]
        if free(done):
            return done
    return done


MISSPELT = 0.8
"""How like a name is that was meant: 1 is the same, and one letter of five makes 0.8 or more."""


@cache
def _settings() -> dict[str, tuple[Any, dict[str, Any]]]:
    """Every setting with its default and its marks."""
    return flatten(Config())


@cache
def _blank() -> DictConfig:
    """A configuration into which values are put to see whether they go; which it holds does not matter."""
    blank: DictConfig = OmegaConf.structured(Config)
    return blank


def _open(key: str) -> bool:
    """Whether a key lies in a dictionary where any name may be used."""
    settings = _settings()
    parts = key.split(".")
    above = (".".join(parts[:end]) for end in range(1, len(parts)))
    return any(part in settings and isinstance(settings[part][0], dict) for part in above)


def _named_by(group: str, name: str) -> str | None:
    """The choice whose comment speaks of `name`, as conf/hardware/t4.yaml does of a V100."""
    wanted = rf"\b{re.escape(name)}\b"
    files = ((known, choice(group, known)) for known in options(group))
    if group != "hardware":
        return None
    return next((known for known, file in files if file and re.search(wanted, _joined(file.comment), re.I)), None)


def _joined(text: str) -> str:
    """`RTX 4070` as it is typed: `RTX4070`."""
    return re.sub(r"\b(RTX|GTX|Tesla|NVIDIA) (?=\w*\d)", r"\1", text)


def _several(override: Override) -> str:
    """What is written instead of several values."""
    key, text = override.key_or_group, override.get_value_string()
    value = _settings().get(key, (None, {}))[0]
    if isinstance(value, list) or key == "tracking":
        return f"a list is written {key}=[{text}]; use -m for a sweep"
    return "use -m for a sweep" + (f", or quote it twice: '{key}=\"{text}\"'" if isinstance(value, str) else "")


def _plain(value: Any) -> Any:
    """Hydra's quoted strings as plain ones."""
    return value.text if isinstance(value, QuotedString) else value


def _typed(value: Any) -> str:
    """A value as it is typed on the command line."""
    return "null" if value is None else str(value)


def _expected(key: str) -> str:
    value, marks = _settings().get(key, (None, {}))
    if "choices" in marks:
        return f"known: {', '.join(marks['choices'])}"
    kind = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        list: "a list, such as [a,b]",
        dict: _MAPPINGS.get(key, "a mapping, such as {a: 1}"),
    }
    hint = _field_type(key) if value is None else kind.get(type(value), "")
    if key == "train.learning_rate":
        hint = "a number, such as 2e-4, or null"
    return f"{key} is {hint}" if hint else ""


_MAPPINGS = {
    "data.sources": "a mapping, such as {NAME: {path: my.jsonl}}",
    "evaluate.sets": "a mapping, such as {NAME: {path: my.jsonl}}",
    "evaluate.gates": "a mapping, such as {exact_match: {min: 0.6}}",
}
"""What settings of free names take."""


def _field_type(key: str) -> str:
    """What an open setting takes, from its annotation."""
    part: Any = Config()
    *parents, last = key.split(".")
    for name in parents:
        part = getattr(part, name)
    text = next((str(item.type) for item in fields(part) if item.name == last), "")
    return "a number, or null" if "float" in text else "a whole number, or null" if "int" in text else ""


def _quoted(text: str) -> str:
    """How to write a value that Hydra's grammar does not take as it is."""
    key, _, value = text.partition("=")
    return (
        f"values with = , [ ] {{ }} ( ) or blanks are quoted twice: '{key}=\"{value}\"'" if value else "write key=value"
    )
