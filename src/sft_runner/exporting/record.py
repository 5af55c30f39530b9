"""What is told of a run to whoever gets its model: settings, data, scores and proofs from its manifests.

Nothing in it names a place on the machine it was made on, holds a secret, or changes from one export to the next.
"""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config
from sft_runner.disk import read_json
from sft_runner.store import MANIFEST

STAGES = ("prepare", "train", "merge", "evaluate")
"""Whose manifests are read."""
_ADDRESS = re.compile(r"://[^/@\s]+@")
_QUERY = re.compile(r"[?#]\S*$")
_PATH = re.compile(r"(?<![\w.:/])[~.]{0,2}/(?:[^\s/'\",;]+/)+([^\s/'\",;]*)")


@dataclass(frozen=True)
class Record:
    """A run, as it may be told."""

    name: str
    """Of the run."""
    base: str
    """The base model: a hub id, or a folder's name."""
    hub: bool
    """Whether that is a hub id."""
    commit: str
    """The base's commit on the hub; empty for folders."""
    settings: dict[str, Any]
    """The settings that the model depends on, nested."""
    metrics: dict[str, dict[str, Any]]
    """The metrics of each stage."""
    datasets: list[dict[str, Any]]
    """What was learned from: name, digest, rows."""
    notes: list[str]
    """What a person should know."""
    versions: dict[str, str]
    """Packages that trained it."""
    places: dict[str, str]
    """Folders and files of this machine that reports may name -> what they are called elsewhere."""

    def told(self, report: Path) -> str:
        """A report's text without the places of this machine."""
        text = report.read_text(encoding="utf-8")
        for place, name in self.places.items():
            for written in (place, html.escape(place)):
                text = text.replace(written, html.escape(name) if report.suffix == ".html" else name)
        return text


def read(config: Config, inputs: Mapping[str, Path]) -> Record:
    """Gather what the stages in `inputs` wrote about themselves."""
    found = {name: read_json(inputs[name] / MANIFEST) or {} for name in STAGES if name in inputs}
    settings: dict[str, Any] = {}
    for manifest in found.values():
        settings |= manifest.get("config", {})
    hub = "/" in config.model.name and not Path(config.model.name).expanduser().is_absolute()
    commit = str(found.get("train", {}).get("model", "")) if hub else ""
    read_from = found.get("prepare", {}).get("datasets", [])
    named = {config.model.name, *(str(one.get(key)) for one in read_from for key in ("name", "source"))}
    places = sorted((place for place in named if place.startswith("/")), key=len, reverse=True)
    datasets = [one for one in read_from if one.get("context") == "training"]
    return Record(
        config.name,
        shown(config.model.name),
        hub,
        commit.split(" ")[0],
        {"model": {"name": shown(config.model.name)}, **_nested(shown(settings))},
        shown({name: manifest.get("metrics", {}) for name, manifest in found.items()}),
        [{key: shown(one.get(key)) for key in ("name", "digest", "rows")} for one in datasets],
        [shown(note) for name in ("train", "merge") for note in found.get(name, {}).get("notes", [])],
        dict(sorted(found.get("train", {}).get("versions", {}).items())),
        {place: shown(place) for place in places},
    )


def shown(value: Any) -> Any:
    """A value without folders of this machine and without secrets of addresses."""
    if isinstance(value, dict):
        return {str(key): shown(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [shown(one) for one in value]
    if not isinstance(value, str):
        return value
    if "://" in value:
        return _QUERY.sub("", _ADDRESS.sub("://", value))
    if value.startswith(("/", "~/", "./", "../")) and "\n" not in value:
        return Path(value).name
    return _PATH.sub(r"\1", value)


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """`{"lora.r": 8}` as `{"lora": {"r": 8}}`."""
    found: dict[str, Any] = {}
    for key, value in sorted(flat.items()):
        *path, last = key.split(".")
        part = found
        for step in path:
            part = part.setdefault(step, {})
        part[last] = value
    return found
