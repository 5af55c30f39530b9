"""What stands for a model, its tokenizer and its chat template, each apart, so that what drifted has its name."""

import hashlib
import json
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config
from sft_runner.data.template import choice
from sft_runner.disk import read_json
from sft_runner.fingerprint import Hashes
from sft_runner.model.files import TOKENIZER_FILES, ModelFiles

NONE = "none"
"""A model without a chat template."""
TEMPLATES = ("chat_template.jinja", "chat_template.json")
SETTINGS = "tokenizer_config.json"
"""Holds the chat template of older models beside the tokenizer's settings."""


def weights(found: ModelFiles, hashes: Hashes) -> str | None:
    """SHA-256 of a folder's weights and configuration; None for a hub model, whose commit stands for its bytes."""
    if found.folder is None or not found.local:
        return None
    kinds = (".json", ".safetensors")
    files = (path for path in found.folder.iterdir() if path.suffix in kinds and path.name not in TOKENIZER_FILES)
    return hashes.together(sorted(files))


def tokenizer(folder: Path, hashes: Hashes) -> str:
    """SHA-256 of the tokenizer's files, without the chat template wherever it stands."""
    lines = []
    for name in TOKENIZER_FILES:
        path = folder / name
        if name in TEMPLATES or not path.is_file():
            continue
        values = read_json(path) if name == SETTINGS else None
        if isinstance(values, dict) and "chat_template" in values:
            del values["chat_template"]
            lines.append(f"{name}\0{_sha256(json.dumps(values, sort_keys=True))}")
        else:
            lines.append(f"{name}\0{hashes.of(path)}")
    return _sha256("\n".join(lines))


def template(config: Config, folder: Path | None, hashes: Hashes) -> str | None:
    """SHA-256 of the chat template that is trained with; None while the model that has it is not here."""
    name = config.data.template
    if name in choice.NAMED:
        return hashes.of(Path(choice.__file__).parent / "named" / f"{name}.jinja")
    if name != choice.OWN:
        return hashes.of(Path(name).expanduser().absolute())
    if folder is None:
        return None
    if (folder / TEMPLATES[0]).is_file():
        return hashes.of(folder / TEMPLATES[0])
    texts = (_own(folder / name) for name in (SETTINGS, TEMPLATES[1]))
    return next((_sha256(text) for text in texts if text), NONE)


def _own(path: Path) -> str:
    """The template in a JSON file; of several the one for everything, as transformers takes it."""
    values: Any = read_json(path) if path.is_file() else None
    found = values.get("chat_template") if isinstance(values, dict) else None
    if isinstance(found, list):
        found = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
    if isinstance(found, dict):
        found = found.get("default")
    return found if isinstance(found, str) else ""


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
