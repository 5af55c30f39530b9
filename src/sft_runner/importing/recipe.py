"""The recipe that a draft becomes: its text, whether it would be taken, and how it is written."""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sft_runner.config import sources
from sft_runner.config.schema import Config, flatten
from sft_runner.disk import explained, sync_folder
from sft_runner.errors import UserError, raise_all
from sft_runner.importing.draft import Draft, hidden
from sft_runner.method import number

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
GROUPS = ("model", "data", "method")
"""The choices of a recipe, in the order of its lines."""
WIDE = 10_000
"""Characters before a line would be broken: never."""


def text(draft: Draft, name: str, origin: Path, comment: str) -> str:
    """The YAML of the recipe called `name`, in the order of our keys."""
    said = shlex.join(["python", "-m", "sft_runner", f"recipe={_word(name)}", *_words(draft)])
    lines = [
        f"# goal:     {_line(hidden(comment)) or f'what {origin.name} of {draft.program} trains'}",
        "# hardware: that of the file is not known; not measured yet",
        "# result:   not measured yet",
        f"# command:  {said}",
        f"# imported from {_line(origin.name)} ({draft.program}); what has another meaning here says so beside it",
        *(f"# {_line(remark)}" for remark in draft.remarks),
    ]
    if draft.choices:
        chosen = [group for group in GROUPS if group in draft.choices]
        lines += ["defaults:", *(f"  - override /{group}: {draft.choices[group]}" for group in chosen)]
    settings = {key: value for key, value in draft.settings.items() if value != {}}
    if not NAME.fullmatch(name):
        settings["name"] = safe_name(name)
    order = list(flatten(Config()))
    part = ""
    lines += [""] if draft.choices and settings else []
    for key in sorted(settings, key=lambda key: _rank(key, order)):
        above, _, last = key.rpartition(".")
        if above != part or not above:
            lines += _heads(above, part)
            part = above
        indent = "  " * (above.count(".") + 1 if above else 0)
        lines += _setting(indent, last, settings[key], draft.comments.get(key, ""))
    return "\n".join(lines) + "\n"


def write(draft: Draft, target: Path, origin: Path, comment: str, force: bool) -> str:
    """Write the recipe and compose it; returns why it would be refused, empty where it would not.

    It is written either way, aside and renamed, never over another file unless that is wanted (`UserError`). Words
    of the machine that no CPU takes leave its command.
    """
    _put(target, text(draft, target.stem, origin, comment), force)
    refused = check(target.stem, draft.words)
    if not refused or not draft.words:
        return refused
    if _only_for_cards(draft, target.stem):
        _put(target, text(draft, target.stem, origin, comment), True)
    return check(target.stem, draft.words)


def check(name: str, words: Mapping[str, str]) -> str:
    """What is wrong with a recipe that is there, beside these words; empty where it runs on a CPU."""
    from sft_runner.config import conflicts
    from sft_runner.config.layers import layers, settled
    from sft_runner.data.formats import unknown_columns

    sources.forget()
    said = [f"recipe={_word(name)}", "hardware=cpu", *(f"{key}={value}" for key, value in words.items())]
    try:
        config = settled(layers(said)).config
        maps = conflicts.columns(config)
        raise_all([error for key, form, map in maps for error in unknown_columns(map, form, key)])
    except UserError as error:
        return error.show()
    return ""


def safe_name(name: str) -> str:
    """A name for a folder and a served model."""
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", name).strip("-.+") or "imported"


def _only_for_cards(draft: Draft, name: str) -> bool:
    """Take those words out that the CPU refuses; whether there are any. None, where it is refused without them too."""
    if check(name, {}):
        return False
    refused = [key for key, value in draft.words.items() if check(name, {key: value})]
    for key in refused:
        draft.to_do(f"on a card add {key}={draft.words.pop(key)} to the command: the CPU does not take it")
    return bool(refused)


def _put(target: Path, content: str, over: bool) -> None:
    """Write aside, sync, rename; not `over` a file that somebody has written since."""
    aside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(aside, "w", encoding="utf-8") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if over:
                os.replace(aside, target)
            else:
                _give(aside, target)
        finally:
            aside.unlink(missing_ok=True)
        sync_folder(target.parent)


def _give(aside: Path, target: Path) -> None:
    """Give the file its name, unless something has that name. Raises `UserError`."""
    try:
        os.link(aside, target)
    except OSError:  # it is there, or this file system has no second names
        if os.path.lexists(target):
            raise UserError(f"{target} exists", "give another name with -o, or --force to replace it") from None
        os.replace(aside, target)


def _words(draft: Draft) -> list[str]:
    return [f"{key}={value}" for key, value in sorted(draft.words.items())]


def _word(name: str) -> str:
    """A name as a value on Hydra's command line."""
    return name if NAME.fullmatch(name) else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _heads(above: str, before: str) -> list[str]:
    """The lines that open a part, as far as it is not open."""
    parts, open_parts = above.split(".") if above else [], before.split(".") if before else []
    same = 0
    while same < min(len(parts), len(open_parts)) and parts[same] == open_parts[same]:
        same += 1
    return [f"{'  ' * depth}{parts[depth]}:" for depth in range(same, len(parts))]


def _setting(indent: str, key: str, value: Any, comment: str) -> list[str]:
    """The lines of one setting; a mapping has a line for each of its entries."""
    beside = f"   # {_line(comment)}" if comment else ""
    if isinstance(value, Mapping):
        inner = [f"{indent}  {_scalar(name)}: {_scalar(entry)}" for name, entry in value.items()]
        return [f"{indent}{_scalar(key)}:{beside}", *inner]
    shown = number(value) if key == "learning_rate" and isinstance(value, int | float) else _scalar(value)
    return [f"{indent}{_scalar(key)}: {shown}{beside}"]


def _scalar(value: Any) -> str:
    """A value on one line of YAML."""
    shown = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=WIDE, sort_keys=False)
    return shown.removesuffix("\n").removesuffix("\n...")


class _Dumper(yaml.SafeDumper):
    """YAML whose texts stay texts: recipes are read as OmegaConf does it, for which `2e-4` is a number."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    quoted = re.fullmatch(r"[-+.\d].*|(?i:nan|inf)|.*['\n].*", text, re.DOTALL)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if quoted else None)


_Dumper.add_representer(str, _text)


def _rank(key: str, order: list[str]) -> tuple[int, str]:
    """The place of a key among ours; one in a free mapping stands where the mapping does."""
    while key not in order and "." in key:
        key = key.rpartition(".")[0]
    return (order.index(key) if key in order else len(order), key)


def _line(said: str) -> str:
    """A text on one line, without what a terminal would act on."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in said).split())


def quoted(name: str) -> str:
    """`recipe=NAME` as it is typed in a shell."""
    return shlex.quote(f"recipe={_word(name)}")
