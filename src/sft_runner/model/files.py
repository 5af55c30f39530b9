"""Where a model's files are, found without loading anything and without a network.

A model is named `embedded:tiny`, by a folder, or by a hub id with an optional commit. Stages always load from the
local folder that `locate` returns, so what a fingerprint saw is what is loaded.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from sft_runner.config.schema import Model
from sft_runner.errors import MachineError, Mistake, UserError
from sft_runner.model import remote_code
from sft_runner.model.weights import shards

EMBEDDED = Path(__file__).parents[1] / "embedded"
TOKENIZER_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",  # names the end-of-turn tokens
    "merges.txt",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
KINDS = (".jinja", ".json", ".model", ".tiktoken", ".txt")
"""Endings of files that a tokenizer or a processor reads."""
LICENCES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")
"""Files that must go along with a model's weights."""
FETCHED = (*(f"*{kind}" for kind in KINDS), *LICENCES, "*.safetensors", "README.md")
"""What is downloaded of a hub model: no code, never pickles."""


@dataclass(frozen=True)
class ModelFiles:
    """A model on this machine."""

    folder: Path | None
    """Folder with `config.json`, tokenizer and weights; None while a hub model is not in the cache."""
    commit: str | None
    """Commit of a hub model; None for folders, whose bytes are hashed instead."""
    local: bool
    """Whether it is a folder of the user's or of the package, not a hub model."""
    own_code: bool = False
    """Whether loading it runs code from its folder, which `model.trust_remote_code` allowed by name and commit."""


def locate(model: Model) -> ModelFiles:
    """Find a model's folder. Raises `UserError` for a folder that is not there or not loadable."""
    if model.name.startswith("embedded:"):
        return ModelFiles(_checked(EMBEDDED / model.name.removeprefix("embedded:"), model, False), None, True)
    path = Path(model.name).expanduser()
    if path.is_dir():
        return ModelFiles(_checked(path.resolve(), model, False), None, True)
    if model.name.startswith((".", "/", "~")) or model.name.count("/") != 1:
        hint = "give a folder, or a hub id such as Qwen/Qwen2.5-1.5B-Instruct"
        raise UserError(f"model.name: there is no folder '{model.name}'", hint, Mistake.MISSING_PATH)
    cached = hub_cache() / f"models--{model.name.replace('/', '--')}"
    pinned = model.revision if remote_code.is_commit(model.revision) else None
    commit = pinned or _reference(cached, model.revision or "main")
    allowed = remote_code.allowed(model)
    folder = cached / "snapshots" / commit if commit else None
    if folder is None or not _fetched(folder, allowed):
        return ModelFiles(None, commit, False)
    return ModelFiles(_checked(folder, model, True), commit, False, allowed and bool(remote_code.classes(folder)))


def settings(folder: Path) -> dict[str, Any]:
    """The `config.json` of a model's folder. Raises `UserError` where it is missing or no model's."""
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"model.name: {folder} has no config.json", "give the folder of a transformers model")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"model.name: {path} is not JSON: {error}", "fetch the model again") from None
    family = values.get("model_type") if isinstance(values, dict) else None
    if not isinstance(values, dict) or not (isinstance(family, str) or (family is None and "auto_map" in values)):
        raise UserError(f"model.name: {path} does not say a model_type", "give the folder of a transformers model")
    return values


def require(model: Model) -> Path:
    """The folder of a model that must be here now. Raises `MachineError` in one line where it is not."""
    found = locate(model)
    if found.folder is None:
        raise _missing(model)
    return found.folder


def fetch(model: Model) -> None:
    """Download a hub model into the local cache if it is not there. Raises `MachineError` without a network."""
    if locate(model).folder is not None:
        return
    if constants.HF_HUB_OFFLINE:
        raise _missing(model)
    from huggingface_hub import snapshot_download

    try:
        patterns = [*FETCHED, remote_code.FILES] if remote_code.allowed(model) else list(FETCHED)
        snapshot_download(model.name, revision=model.revision, allow_patterns=patterns)
    except Exception as error:  # the hub client raises its own, requests' and the system's
        raise _missing(model) from error


def _missing(model: Model) -> MachineError:
    return MachineError(
        f"model.name: {model.name} is not in the hub cache {hub_cache()}, and cannot be fetched",
        f"fetch it where there is a network (hf download {model.name}), give a folder with model.name=DIR, "
        "or try the embedded model with model=tiny",
    )


def hub_cache() -> Path:
    """The hub's cache folder, as the hub client sees it."""
    return Path(constants.HF_HUB_CACHE)


def _reference(cached: Path, name: str) -> str | None:
    """The commit that a branch or tag pointed to when it was fetched."""
    file = cached / "refs" / name
    return file.read_text().strip() if file.is_file() else None


def _fetched(folder: Path, with_code: bool) -> bool:
    """Whether a download ended: configuration, tokenizer and every shard are there, and its code if that may run."""
    weights = shards(folder)
    needed = [folder / "config.json", folder / "tokenizer_config.json", *weights]
    if with_code:
        needed += remote_code.modules(folder)
    return bool(weights) and all(path.is_file() for path in needed)


def _checked(folder: Path, model: Model, hub: bool) -> Path:
    """The folder, if it is a model that loads."""
    remote_code.check(folder, model, str(settings(folder).get("model_type")), hub)
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")):
        raise UserError(
            f"model.name: '{model.name}' has no tokenizer", "copy the tokenizer's files into the model's folder"
        )
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"model.name: '{model.name}' has no .safetensors weights",
            "other weight files can hold code; convert it to safetensors",
        )
    return folder
