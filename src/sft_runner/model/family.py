"""What the installed transformers knows of a family of models, read from its source: importing it takes seconds.

A config.json leaves out what its family's configuration class has as a default, and some families have words of their
own for a number that all of them have.
"""

import ast
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Family:
    """One configuration class of transformers."""

    defaults: dict[str, Any] = field(default_factory=dict)
    """What a config.json may leave out."""
    renamed: dict[str, str] = field(default_factory=dict)
    """The usual word for a number -> this family's own, such as `hidden_size` -> `n_embd`."""


@cache
def family(model_type: str) -> Family | None:
    """The family called `model_type`; None where transformers has none."""
    parts = model_type.replace("-", "_").split("_")
    for count in range(len(parts), 0, -1):  # gemma3_text is found in the folder gemma3
        for source in sorted(_models().glob(f"{'_'.join(parts[:count])}/configuration_*.py")):
            for node in _tree(source).body:
                if isinstance(node, ast.ClassDef) and (found := _values(node)).get("model_type") == model_type:
                    renamed = found.pop("attribute_map", {})
                    return Family(found, renamed)
    return None


@cache
def built_in(model_type: str) -> bool:
    """Whether transformers has a language model of this family, so that no other code is needed for it."""
    auto = _models() / "auto" / "modeling_auto.py"
    if not auto.is_file():
        return False
    for node in _tree(auto).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES":
            names = {item.value for item in ast.walk(node.value) if isinstance(item, ast.Constant)}
            return model_type in names
    return False


def _models() -> Path:
    """Where the installed transformers has its models."""
    spec = find_spec("transformers")
    places = spec.submodule_search_locations if spec else None
    return Path(places[0], "models") if places else Path("transformers-is-not-installed")


def _tree(source: Path) -> ast.Module:
    return ast.parse(source.read_text(encoding="utf-8"))


def _values(node: ast.ClassDef) -> dict[str, Any]:
    """The plain values that a class body assigns."""
    found: dict[str, Any] = {}
    for line in node.body:
        match line:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                try:
                    found[name] = _constant(value)
                except ValueError:
                    continue  # not a plain value, such as a default factory
    return found


def _constant(node: ast.expr) -> Any:
    """A literal, or a product of literals such as `4096 * 32`."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return _constant(node.left) * _constant(node.right)
    return ast.literal_eval(node)
