"""What stands for a model, its tokenizer and its chat template, each apart, so that what drifted has its name."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config
from sft_runner.data.template import choice
from sft_runner.disk import read_json
from sft_runner.fingerprint import Hashes
from sft_runner.model import remote_code
from sft_runner.model.files import KINDS, TOKENIZER_FILES, ModelFiles
from sft_runner.model.weights import INDEX, shards

NONE = "none"
"""A model without a chat template."""
TEMPLATES = ("chat_template.jinja", "chat_template.json")
SETTINGS = "tokenizer_config.json"
"""Holds the chat template of older models beside the tokenizer's settings."""
MORE_TEMPLATES = "additional_chat_templates"
"""Folder of templates that are chosen by name."""
FORMS = ("*.model", "*.tiktoken", f"{MORE_TEMPLATES}/*.jinja")
"""Files of a tokenizer that have no fixed name."""
_FILE = re.compile(r"[^/\\\0\n]{1,200}")
"""A name that leads out of no folder."""
_BLOB = re.compile(r"[0-9a-f]{64}")
"""What the hub's cache calls a large file: its SHA-256 (huggingface_hub/file_download.py, the ETag of LFS files)."""


def weights(found: ModelFiles, hashes: Hashes) -> str | None:
    """SHA-256 of a model's weights and configuration, and of its own code where that runs; None where it is not here.

    It is that of the files which loading it reads, whatever else was downloaded. Of a hub model each large one goes by
    the name that the hub's cache gave it.
    """
    if found.folder is None:
        return None
    paths = [found.folder / "config.json", found.folder / INDEX, *shards(found.folder)]
    paths += remote_code.modules(found.folder) if found.own_code else []
    paths = [path for path in paths if path.is_file()]
    if found.local:
        return hashes.together(sorted(paths))
    return _sha256("\n".join(f"{path.name}\0{_of(path, hashes)}" for path in paths))


def tokenizer(folder: Path, hashes: Hashes) -> str:
    """SHA-256 of the files that a tokenizer reads, without the chat template wherever it stands."""
    lines = []
    for path in _tokenizer_files(folder):
        name = path.relative_to(folder).as_posix()
        values = read_json(path) if name == SETTINGS else None
        if isinstance(values, dict) and "chat_template" in values:
            del values["chat_template"]
            lines.append(f"{name}\0{_sha256(json.dumps(values, sort_keys=True))}")
        elif name not in TEMPLATES:
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


def _tokenizer_files(folder: Path) -> list[Path]:
    """Sorted by name: those of known names and endings, and those that its settings name. Others in the folder count
    for nothing: which of them are there hangs on how a model was downloaded."""
    found = {folder / name for name in (*TOKENIZER_FILES, *_named(folder / SETTINGS))}
    found |= {path for form in FORMS for path in folder.glob(form)}
    return sorted(path for path in found if path.is_file())


def _named(settings: Path) -> Iterator[str]:
    """The files beside a tokenizer's settings that those name."""
    pending: list[Any] = [read_json(settings) if settings.is_file() else None]
    while pending:
        value = pending.pop()
        if isinstance(value, dict | list):
            pending += value.values() if isinstance(value, dict) else value
        elif isinstance(value, str) and _FILE.fullmatch(value) and value.endswith(KINDS) and value != "config.json":
            yield value


def _of(path: Path, hashes: Hashes) -> str:
    """The hash of a file; of weights in the hub's cache without reading them."""
    blob = path.readlink() if path.suffix == ".safetensors" and path.is_symlink() else path
    return blob.name if blob.parent.name == "blobs" and _BLOB.fullmatch(blob.name) else hashes.of(path)


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
