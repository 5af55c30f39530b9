"""Code that a model brings along in its folder. None of it runs, unless the user allowed it by name and commit.

`model.trust_remote_code` is no switch: it names one hub model at one commit, so what was read is what runs.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config, Model
from sft_runner.disk import read_json
from sft_runner.errors import UserError
from sft_runner.model.family import built_in, has_tokenizer

FILES = "*.py"
"""What is downloaded too where the code may run."""
HERE = r"\w+\.\w+"
"""`file.Class` in the model's own folder; `owner/name--file.Class` is code that no commit of the model pins."""


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a commit; a branch or a tag may mean something else tomorrow."""
    return re.fullmatch(r"[0-9a-f]{40}", revision or "") is not None


def allowed(model: Model) -> bool:
    """Whether the user allowed the code of exactly this hub model at exactly this commit."""
    return is_commit(model.revision) and model.trust_remote_code == f"{model.name}@{model.revision}"


def classes(folder: Path) -> list[str]:
    """The classes that a config.json names for its model or a part of it, as `file.Class`."""
    found: list[str] = []
    pending: list[Any] = [read_json(folder / "config.json")]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            found += _texts(value.get("auto_map"))
            pending += value.values()
    return found


def modules(folder: Path) -> list[Path]:
    """The files of those classes that are in the folder itself."""
    return [folder / f"{name.split('.')[0]}.py" for name in classes(folder) if re.fullmatch(HERE, name)]


def check(folder: Path, model: Model, model_type: str, hub: bool) -> None:
    """Raise `UserError` for a model that does not load without code that may not run."""
    _check_tokenizer(folder, model, model_type)
    named = classes(folder)
    if built_in(model_type) and not (named and allowed(model)):
        return  # what transformers has itself is loaded
    if not named:
        unknown = (
            f"model.name: {folder / 'config.json'}: transformers has no language model of the family '{model_type}'"
        )
        raise UserError(unknown, "choose a model that reads and writes text, of a family that transformers knows")
    asks = f"model.name: '{model.name}' asks for code of its own (auto_map in config.json)"
    other = "choose a model that transformers knows itself"
    if not hub:
        raise UserError(f"{asks}, which is never run from a folder: no commit says what it is", other)
    if elsewhere := [name for name in named if not re.fullmatch(HERE, name)]:
        raise UserError(f"{asks}, and takes it from another repository: {elsewhere[0]}", other)
    if not allowed(model):
        commit = model.revision if is_commit(model.revision) else "COMMIT"
        hint = f"read that code, then set model.revision={commit} and model.trust_remote_code={model.name}@{commit}"
        raise UserError(f"{asks}, which is not run unless you allow it by name and commit", f"{hint}; or {other}")


def limits(config: Config) -> Iterator[UserError]:
    """What a model with code of its own cannot have: what training writes is loaded by others, who never run it."""
    if not allowed(config.model):
        return
    if config.adapter == "none":
        yield UserError(
            "adapter=none writes a whole model, which would need the code that model.trust_remote_code allows here",
            "train an adapter, with method=lora",
        )
    if config.stage.until in ("merge", "export", "serve"):
        yield UserError(
            f"model.trust_remote_code: a model with code of its own is not merged or served, and stage="
            f"{config.stage.until} asks for it",
            "end with stage=evaluate",
        )


def _check_tokenizer(folder: Path, model: Model, model_type: str) -> None:
    """Raise `UserError` for a tokenizer that is read by code of its own: rows are prepared without any."""
    values = read_json(folder / "tokenizer_config.json")
    if values is None:
        return  # a tokenizer may have other files; where none is there, that is told elsewhere
    where = f"model.name: {folder / 'tokenizer_config.json'}"
    if not isinstance(values, dict):
        raise UserError(f"{where} is not about a tokenizer", "fetch the model again")
    own, kind = values.get("auto_map"), str(values.get("tokenizer_class") or "").removesuffix("Fast")
    if (own.get("AutoTokenizer") if isinstance(own, dict) else own) and not has_tokenizer(model_type, kind):
        hint = "choose a model whose tokenizer transformers knows, or convert it to a tokenizer.json"
        raise UserError(f"{where} asks for a tokenizer with code of its own (auto_map), which is never run", hint)


def _texts(value: Any) -> list[str]:
    """All texts in nested lists and dictionaries."""
    found, pending = [], [value]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            found.append(value)
        pending += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return found
