"""Which modules get an adapter: those that are named, or those that PEFT takes where nothing is said."""

import ast
import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

from sft_runner.config import sources
from sft_runner.config.schema import ALL_LINEAR
from sft_runner.importing.draft import NOT_CARRIED, Draft

EVERYTHING = (ALL_LINEAR, "all")
"""Words for every linear layer."""
TABLE = "TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING"
"""PEFT's table: the type of a model -> its modules."""


def targets(draft: Draft, key: str) -> None:
    """The modules that get an adapter: a list, or one text with commas or blanks."""
    value = draft.value(key)
    names = [str(name).strip() for name in value] if isinstance(value, list) else str(value).replace(",", " ").split()
    names = [name for name in names if name]
    if any(name in EVERYTHING for name in names):
        draft.carried(key, "lora.target_modules", [ALL_LINEAR], "every linear layer but the output head")
    elif not names or any(not name.replace(".", "").replace("_", "").replace("-", "").isalnum() for name in names):
        draft.told(NOT_CARRIED, key, "modules are named one by one here, without patterns; set lora.target_modules")
        draft.to_do(f"{key} is a pattern: set lora.target_modules to the modules that it means; open: every linear one")
    else:
        draft.carried(key, "lora.target_modules", names)


def usual_targets(draft: Draft, key: str) -> None:
    """What PEFT takes for a model of this type, where the file names no modules at all."""
    if draft.value(key) is not None or "lora.target_modules" in draft.settings:
        return
    kind = _type_of(draft)
    if names := peft_targets(kind):
        draft.assume("lora.target_modules", names, f"what PEFT takes for {kind} where nothing is named")
    else:
        known = f"PEFT knows none for {kind}" if kind else "which PEFT takes depends on the model's type"
        draft.to_do(f"no modules are named, and {known}: set lora.target_modules; open: every linear one")


def parameters(draft: Draft, key: str = "lora_target_parameters") -> None:
    """Parameters that get an adapter beside the modules."""
    if draft.has(key):
        value = draft.value(key)
        draft.carried(key, "lora.target_parameters", value if isinstance(value, list) else [value])


def peft_targets(kind: str) -> list[str]:
    """The modules in the installed PEFT's table; none for a type that it does not list by names. PEFT is read, not
    imported."""
    names = _table().get(kind)
    return list(names) if isinstance(names, list) else []


@cache
def _table() -> dict[str, Any]:
    """PEFT's table as it is written; empty where there is none."""
    found = importlib.util.find_spec("peft")
    if not found or not found.origin:
        return {}
    try:
        tree = ast.parse((Path(found.origin).parent / "utils" / "constants.py").read_text(encoding="utf-8"))
        values = [
            node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == TABLE
        ]
        table: dict[str, Any] = ast.literal_eval(values[0])
    except (OSError, ValueError, SyntaxError, IndexError):
        return {}
    return table


def _type_of(draft: Draft) -> str:
    """The model's type, where a file of `conf/model` or its own config.json on this machine says it; else empty."""
    name = draft.settings.get("model.name")
    if name is None and "model" not in draft.choices:
        return ""
    options = [draft.choices["model"]] if "model" in draft.choices else sources.options("model")
    for option in options:
        file = sources.choice("model", option)
        if file and file.values and (name is None or file.values.get("name") == name):
            architecture: Any = file.values.get("architecture")
            return str(architecture.get("model_type", "")) if isinstance(architecture, dict) else ""
    try:
        return str(json.loads((Path(str(name)) / "config.json").read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
