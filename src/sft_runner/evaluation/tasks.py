"""Tasks of lm-evaluation-harness before anything runs: do they exist, and is what a user's own folder says only data?

In a task's YAML `!function` names Python to run, and some other words fetch code or read pickles. In the package's own
files that is its business; in a user's folder (`evaluate.benchmarks_path`) it is refused, for recipes name no code.
"""

import os
import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from sft_runner.config.schema import Config
from sft_runner.disk import read_json, remember
from sft_runner.errors import MachineError, UnknownName, UserError

KEY = "evaluate.benchmarks_path"
NAMES = "evaluate.benchmarks"
PICKLES = ("pandas", "webdataset")
"""Values of `dataset_path` whose files can hold code."""
CODE = {
    "class": "names Python",
    "custom_dataset": "names Python",
    "use_prompt": "fetches prompts, or reads another file",
    "unsafe_code": "runs what a model wrote",
    "trust_remote_code": "runs a data set's code",
    "hf_evaluate": "fetches a metric's code",
}
"""Words that a user's own file may not use, and what they do."""
IGNORED = ("__pycache__", ".ipynb_checkpoints")
"""Folders in which the harness looks for no tasks."""
UNCOUNTED = (*IGNORED, ".git")
"""Folders whose bytes do not count, so that nothing in them may be used."""
NAMED = re.compile(r"""^["']?(?:task|group)["']?[ \t]*:[ \t]*["']?([^\s"'#\[{]+)""", re.MULTILINE)
TAGS = re.compile(r"""^["']?tag["']?[ \t]*:(.*\n?(?:[ \t-].*\n?)*)""", re.MULTILINE)
"""Where the package's files name their tasks and groups, and the tags of tasks."""


def check(config: Config) -> None:
    """Raise `MachineError` where benchmarks are asked for and the harness is not installed."""
    if config.evaluate.benchmarks and harness() is None:
        hint = "pip install 'sft-runner[benchmarks]', or go without them: evaluate.benchmarks=[]"
        raise MachineError(f"{NAMES} needs the package lm-eval, which is not installed", hint)


def mistakes(config: Config) -> Iterator[UserError]:
    """What is wrong with the names of tasks and with the user's own folder."""
    asked = config.evaluate
    if not asked.benchmarks:
        return
    names: set[str] = set()
    if (folder := folder_of(config)) is not None:
        if not folder.is_dir():
            yield UserError(
                f"{KEY}: there is no folder '{asked.benchmarks_path}'", "give the folder of your task files"
            )
            return
        if Path(config.output_dir).expanduser().resolve().is_relative_to(folder):
            yield UserError(f"{KEY}: {folder} holds output_dir too", "give your task files a folder of their own")
            return
        try:
            own = read(folder)
        except UserError as error:
            yield error
            return
        names = set(own)
        if not own:
            yield UserError(f"{KEY}: {folder} has no task file", "a task file ends in .yaml and has a key 'task'")
    for name in asked.benchmarks:
        if name not in names and harness() is not None and name not in known():
            yield UnknownName("task", name, {*names, *known()}, f"{NAMES}: ")


def folder_of(config: Config) -> Path | None:
    """The user's own folder of tasks."""
    path = config.evaluate.benchmarks_path
    return Path(path).expanduser().resolve() if path else None


def files(config: Config) -> list[Path]:
    """What of the user's own folder counts for scores: all of its files; none where no task is asked for."""
    folder = folder_of(config)
    if folder is None or not config.evaluate.benchmarks:
        return []
    return sorted(path for path in folder.rglob("*") if not _below(UNCOUNTED, path, folder) and path.is_file())


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Name -> values of the tasks, groups and tags in a folder. Raises `UserError` where a file is not plain data."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*.yaml")):
        if _below(IGNORED, path, folder):
            continue
        values = _read(path.resolve(), folder, ())
        tags = values.get("tag") or []
        for name in (values.get("group") or values.get("task"), *([tags] if isinstance(tags, str) else tags)):
            if isinstance(name, str):
                found.setdefault(name, values)
    return found


def alone(asked: Iterable[str], own: dict[str, dict[str, Any]]) -> bool:
    """Whether the tasks asked for need none of the package's own, whose index takes ten seconds to make."""
    members = [name for values in own.values() for name in _members(values.get("task"))]
    return all(name in own for name in (*asked, *members))


def metrics(config: Config, name: str) -> list[str]:
    """What a task of the user's own measures; empty where it is not theirs, or where its file does not say."""
    folder = folder_of(config)
    try:
        values = read(folder).get(name, {}) if folder else {}
    except UserError:
        return []  # `mistakes` tells of it
    listed, filters = values.get("metric_list"), values.get("filter_list") or [{"name": "none"}]
    if values.get("task") != name or "include" in values or not isinstance(listed, list):
        return []
    try:
        return [metric_name(one["metric"], by["name"], len(filters) > 1) for one in listed for by in filters]
    except (KeyError, TypeError, AttributeError):
        return []


def metric_name(metric: str, by: str, several: bool) -> str:
    """A metric's name with that of the filter of answers that it is measured behind, where a task has several."""
    return metric if by == "none" or not several else metric + re.sub(r"\W+", "_", f"_{by}")


def harness() -> Path | None:
    """The folder of the installed lm-evaluation-harness; None where there is none."""
    spec = find_spec("lm_eval")
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None


@cache
def known() -> frozenset[str]:
    """All names of the package's own tasks, groups and tags, remembered by its version: there are 14,000 files."""
    home = harness()
    if home is None:
        return frozenset()
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    memory = cache_home / f"sft_runner/lm_eval-{metadata.version('lm_eval')}.json"
    remembered = read_json(memory)
    if isinstance(remembered, list) and remembered:
        return frozenset(map(str, remembered))
    found = _scan(home / "tasks")
    remember(memory, sorted(found))
    return found


def _scan(folder: Path) -> frozenset[str]:
    """Names in files that are never parsed; a few too many do no harm."""
    found: set[str] = set()
    for path in folder.rglob("*"):
        if path.suffix in ("", ".yaml", ".yml") and path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            found.update(NAMED.findall(text))
            for block in TAGS.findall(text):
                found.update(re.findall(r"[^\s,\"'\[\]#]+", block))
    return frozenset(found)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Plain data. The harness imports a function while it parses, whatever becomes of the value, and so it is refused
    while it is parsed."""


def _function(loader: yaml.Loader, node: yaml.Node) -> None:
    hint = "write it as a Jinja template, a filter or a metric of lm-evaluation-harness"
    place = f"{node.start_mark.name}, line {node.start_mark.line + 1}"
    raise UserError(f"{KEY}: {place}: !function runs Python, which is refused here", hint)


_Loader.add_constructor("!function", _function)


def _below(names: Iterable[str], path: Path, folder: Path) -> bool:
    """Whether a path lies in a folder of one of these names below `folder`."""
    return path.is_relative_to(folder) and not set(path.relative_to(folder).parts).isdisjoint(names)


def _read(path: Path, folder: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """The values of a file over those of the files that it includes."""
    if not path.is_relative_to(folder) or _below(UNCOUNTED, path, folder):
        raise UserError(f"{KEY}: {path} is a task file whose bytes do not count", f"put it into {folder} itself")
    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.load(file, _Loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:  # a date that is none is a ValueError
        raise UserError(f"{KEY}: {path} cannot be read: {error}", "mend that file") from None
    if not isinstance(values, dict):
        raise UserError(f"{KEY}: {path} is no task", "a task file has a key 'task', and says nothing else at its top")
    _refuse(values, path, folder)
    includes = values.get("include") or []
    found: dict[str, Any] = {}
    for name in [includes] if isinstance(includes, str) else includes:
        place = (path.parent / str(name)).resolve()
        if place in (path, *above):
            raise UserError(f"{KEY}: {path} includes itself", "take the key 'include' out")
        if place.is_relative_to(folder):
            found |= _read(place, folder, (path, *above))
        elif (home := harness()) is None or not place.is_relative_to(home.resolve()):
            raise UserError(
                f"{KEY}: {path} includes {name}, which is outside of {folder}",
                "copy it into that folder; files of lm-evaluation-harness itself may be included",
            )
        else:
            found["include"] = name  # says more than is read here
    return found | {key: value for key, value in values.items() if key != "include"}


def _refuse(values: dict[Any, Any], path: Path, folder: Path) -> None:
    """Raise `UserError` for what is code, or reads what has none of the folder's bytes."""
    pending: list[Any] = [values]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            _refuse_data(node, path, folder)
            for key in node:
                if key in CODE and node[key] not in (None, False):
                    raise UserError(f"{KEY}: {path}: '{key}' {CODE[key]}, which is refused here", f"take '{key}' out")
        pending += node.values() if isinstance(node, dict) else node if isinstance(node, list | tuple | set) else ()


def _refuse_data(values: dict[Any, Any], path: Path, folder: Path) -> None:
    name, said = str(values.get("dataset_path") or ""), values.get("dataset_kwargs") or {}
    if name in PICKLES:
        raise UserError(
            f"{KEY}: {path}: dataset_path: {name} reads pickles, which can hold code", "use json or parquet"
        )
    places = [said.get("data_dir"), said.get("data_files")] if isinstance(said, dict) else []
    for place in _texts([*places, name if name.startswith(("/", ".", "~")) else None]):
        target = (folder / place).resolve()
        hint = f"put it there; paths in task files are relative to {folder}"
        if "://" in place or not target.is_relative_to(folder):
            raise UserError(f"{KEY}: {path}: the data '{place}' is outside of {folder}", hint)
        if _below(UNCOUNTED, target, folder):
            raise UserError(f"{KEY}: {path}: the bytes of the data '{place}' do not count", f"put it into {folder}")
        if not target.exists() and not any(folder.glob(os.path.relpath(target, folder))):
            raise UserError(f"{KEY}: {path}: there is no '{place}' in {folder}", hint)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(item)


def _members(value: Any) -> Iterator[str]:
    """The names that a group's `task` lists."""
    for item in value if isinstance(value, list) else ():
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            name = item.get("group") or item.get("task")
            if isinstance(name, str) and "dataset_path" not in item:
                yield name
