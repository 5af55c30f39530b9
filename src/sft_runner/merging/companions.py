"""All that belongs to a model besides its weights: tokenizer, chat template, configuration, licence."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sft_runner.disk import explained, read_json, sync_folder, write_json
from sft_runner.errors import UserError
from sft_runner.model.files import KINDS, LICENCES

OTHER = ("config.json", "adapter_config.json", "trainer_state.json", "all_results.json", "train_results.json")
"""Files with such an ending that belong to weights, or to how they were made."""
CHAT_TEMPLATE = "chat_template.jinja"
"""Where a model's folder has its chat template, and what `prepare` writes when it is another than the base's."""
SETTINGS = "config.json"
"""What a model is built from."""


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A folder that becomes `target` when the block ends, all its bytes on the disk; if it fails, nothing is left.

    Raises `UserError` where `target` is there already.
    """
    if target.exists():
        raise UserError(f"{target} is there already", "take another folder")
    aside = target.with_name(f".{target.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with explained(aside):
            aside.mkdir(parents=True)
        yield aside
        for file in aside.iterdir():
            with explained(file), open(file, "rb") as opened:
                os.fsync(opened.fileno())
        sync_folder(aside)
        os.replace(aside, target)
        sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def weight_bytes(folder: Path) -> int:
    """Size of a model's weights."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def carry(base: Path, target: Path, own_code: bool = False) -> None:
    """Copy what belongs to the model besides weights and `config.json`, byte for byte."""
    if not (base / "generation_config.json").is_file():
        (target / "generation_config.json").unlink(missing_ok=True)
    for file in companions(base, own_code):
        copy(file, target / file.name)


def copy(file: Path, target: Path) -> None:
    """Copy one file, explained where it does not fit. What is a link in a cache becomes a file."""
    with explained(target):
        shutil.copyfile(file, target)


def carry_settings(base: Path, target: Path, changed: Mapping[str, Any]) -> None:
    """Copy `config.json`, with other values for the text model where merging has changed what it is."""
    if not changed:
        copy(base / SETTINGS, target / SETTINGS)
        return
    values = read_json(base / SETTINGS)
    nested = values.get("text_config")
    for name, value in changed.items():
        if isinstance(nested, dict) and (name in nested or name not in values):
            nested[name] = value
        if not isinstance(nested, dict) or name in values or name == "tie_word_embeddings":
            values[name] = value
    write_json(target / SETTINGS, values)


def set_chat_template(template: Path, target: Path) -> None:
    """Make a .jinja file the only chat template of the model in `target`: the one that it was trained with."""
    copy(template, target / CHAT_TEMPLATE)
    (target / "chat_template.json").unlink(missing_ok=True)
    settings = target / "tokenizer_config.json"
    if settings.is_file():
        values = json.loads(settings.read_text(encoding="utf-8"))
        if values.pop("chat_template", None) is not None:
            write_json(settings, values)


def companions(base: Path, own_code: bool = False) -> Iterator[Path]:
    """The files of a model's folder that are neither weights nor `config.json`, nor anything that code runs from."""
    licences = {file for pattern in LICENCES for file in base.glob(pattern)}
    for file in sorted(base.iterdir()):
        read = file.suffix in KINDS and file.name not in OTHER and not file.name.endswith(".index.json")
        code = own_code and file.suffix == ".py"
        if file.is_file() and not file.name.startswith(".") and (read or code or file in licences):
            yield file
