"""What makes two stages the same: what went into them, never their code or their place on disk.

A fingerprint is a hash over the stage's name and version, the settings that it reads, the fingerprints of its inputs,
the base model and the bytes of the user's data. Settings marked `counts=False` and settings at their neutral value
stay out, so that a new setting voids no cache.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config, Model, flatten
from sft_runner.config.schema_evaluate import without_use
from sft_runner.disk import read_json, remember
from sft_runner.evaluation import tasks
from sft_runner.model import continuing
from sft_runner.model.files import TOKENIZER_FILES, locate
from sft_runner.runs import adapter_of
from sft_runner.stages import STAGES
from sft_runner.stages.stage import Stage

LENGTH = 16
"""Hexadecimal digits kept: 64 bits, enough for billions of stages before two would meet by chance."""
UNRESOLVED = "unresolved"
"""Stands for a hub model that is not in the local cache yet."""
FRESH_SECONDS = 2.0
"""A file changed this recently may change again within one tick of the clock, so its hash is not remembered."""


@dataclass(frozen=True)
class Ingredients:
    """Everything that goes into one fingerprint, kept in the manifest so that a difference can be explained."""

    stage: str
    """Name of the stage."""
    version: int
    """Version of the stage."""
    config: dict[str, Any]
    """The settings it reads, flat: `{"lora.r": 8}`."""
    inputs: dict[str, str]
    """Earlier stage -> its fingerprint."""
    model: str
    """The base model's commit or hash, `unresolved`, or empty."""
    data: str
    """Hash of the data's bytes, or empty."""

    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON, shortened."""
        text = json.dumps(vars(self), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def chain(config: Config, stages: Iterable[str], data: Mapping[str, str], hashes: "Hashes") -> dict[str, Ingredients]:
    """What goes into each of `stages`, which come in their order, each behind its inputs; `data` as for `gather`."""
    found: dict[str, Ingredients] = {}
    inputs: dict[str, str] = {}
    for name in stages:
        found[name] = gather(STAGES[name], config, inputs, data, hashes)
        inputs[name] = found[name].fingerprint()
    return found


def gather(
    stage: Stage, config: Config, inputs: Mapping[str, str], data: Mapping[str, str], hashes: "Hashes"
) -> Ingredients:
    """Collect what goes into a stage's fingerprint: `inputs` are those of the stages that came before, `data` are the
    hashes of the user's files, by the words of `Stage.data`. An adapter that is trained further and tasks of the
    user's own count by their bytes, wherever they lie."""
    unused = without_use(config.evaluate)
    settings = {key: value for key, value in read_by(stage, config).items() if key not in unused}
    if continuing.KEY in settings and (adapter := adapter_of(config)):
        settings[continuing.KEY] = hashes.together([adapter / name for name in continuing.FILES])[:LENGTH]
    if tasks.KEY in settings and not (own := tasks.files(config)):
        del settings[tasks.KEY]  # nothing of it is run
    elif tasks.KEY in settings:
        settings[tasks.KEY] = hashes.together(own)[:LENGTH]
    return Ingredients(
        stage=stage.name,
        version=stage.version,
        config=settings,
        inputs={name: inputs[name] for name in stage.inputs},
        model=_model(stage, config.model, hashes) if stage.model else "",
        data=data[stage.data] if stage.data else "",
    )


def read_by(stage: Stage, config: Config) -> dict[str, Any]:
    """The settings that count for a stage."""
    return {
        key: marks.get("counted", _as_it_is)(value)
        for key, (value, marks) in flatten(config).items()
        if any(key == part or key.startswith(f"{part}.") for part in stage.reads)
        and marks.get("counts", True)
        and not ("neutral" in marks and value == marks["neutral"])
        and not key.startswith("model.")  # the model counts by its files
    }


def _as_it_is(value: Any) -> Any:
    return value


class Hashes:
    """SHA-256 of files, remembered by path, size, times and inode; nobody can set the time of the last change back."""

    def __init__(self, memory: Path | None = None) -> None:
        self.memory = (
            memory or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sft_runner/hashes.json"
        )
        known = read_json(self.memory)
        self.known: dict[str, list[Any]] = known if isinstance(known, dict) else {}
        self.changed = False

    def of(self, path: Path) -> str:
        """The hash of one file."""
        status = path.stat()
        key = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        entry = self.known.get(str(path))
        if isinstance(entry, list) and len(entry) == len(key) + 1 and entry[:-1] == key:
            return str(entry[-1])
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if time.time() - status.st_mtime > FRESH_SECONDS:
            self.known[str(path)] = [*key, digest]
            self.changed = True
        return digest

    def together(self, paths: Sequence[Path]) -> str:
        """One hash for several files: of their hashes and their names relative to the folder they share."""
        if len(paths) == 1:
            return self.of(paths[0])
        root = os.path.commonpath(paths)
        lines = sorted(f"{os.path.relpath(path, root)}\0{self.of(path)}" for path in paths)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def save(self) -> None:
        """Remember for the next command."""
        if self.changed:
            remember(self.memory, self.known)
            self.changed = False


def _model(stage: Stage, model: Model, hashes: Hashes) -> str:
    """What stands for the base model: the tokenizer's files, or the commit, or the bytes of a local folder.

    The same commit is another model where its own code runs, and not what transformers has for its family.
    """
    found = locate(model)
    if found.folder is None:
        return found.commit or UNRESOLVED
    if stage.model == "tokenizer":
        names = [*TOKENIZER_FILES]
        return hashes.together([found.folder / name for name in names if (found.folder / name).is_file()])
    if found.commit:
        return f"{found.commit} with its own code" if found.own_code else found.commit
    return hashes.together(sorted(p for p in found.folder.iterdir() if p.suffix in (".json", ".safetensors")))
