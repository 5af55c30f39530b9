"""What the installed transformers knows of a family of models, read from its source: importing it takes seconds.

A config.json leaves out what its family's configuration class has as a default, and some families have words of their
own for a number that all of them have.
"""

import ast
import re
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

TOKENIZERS = ("TokenizersBackend", "PythonBackend", "PreTrainedTokenizer", "PreTrainedTokenizerFast")
"""Classes of transformers that read any tokenizer's files."""


@dataclass(frozen=True)
class Family:
    """One configuration class of transformers."""

    defaults: dict[str, Any] = field(default_factory=dict)
    """What a config.json may leave out."""
    renamed: dict[str, str] = field(default_factory=dict)
    """The usual word for a number -> this family's own, such as `hidden_size` -> `n_embd`."""


@cache
def family(model_type: str) -> Family | None:
    """The family called `model_type`; None where transformers has none. The name may come from anyone's file."""
    if re.fullmatch(r"\w[\w.-]*", model_type) is None:
        return None
    parts = model_type.replace("-", "_").split("_")
    for count in range(len(parts), 0, -1):  # gemma3_text is found in the folder gemma3
        for source in sorted(_models().glob(f"{'_'.join(parts[:count])}/configuration_*.py")):
            for node in _tree(source).body:
                if isinstance(node, ast.ClassDef) and (found := _values(node)).get("model_type") == model_type:
                    renamed = found.pop("attribute_map", {})
                    return Family(found, renamed)
    return None


def built_in(model_type: str) -> bool:
    """Whether transformers has a language model of this family, so that no other code is needed for it."""
    return model_type in _names("modeling_auto.py", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES")


def class_of(model_type: str) -> str:
    """The class of transformers for language models of this family; empty where it has none."""
    source = _models() / "auto" / "modeling_auto.py"
    pairs = (node for node in ast.walk(_tree(source)) if isinstance(node, ast.Tuple)) if source.is_file() else ()
    for node in pairs:
        match node.elts:
            case [ast.Constant(value=str(name)), ast.Constant(value=str(found))] if name == model_type:
                if found.endswith(("ForCausalLM", "LMHeadModel")):
                    return found
    return ""


def has_tokenizer(model_type: str, tokenizer_class: str) -> bool:
    """Whether transformers has a tokenizer of this name, or one for this family."""
    tables = ("TOKENIZER_MAPPING_NAMES", "MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS")
    known = {*TOKENIZERS, *(name for table in tables for name in _names("tokenization_auto.py", table))}
    return not known.isdisjoint((model_type, tokenizer_class, f"{tokenizer_class}Fast"))


@cache
def _names(file: str, table: str) -> frozenset[str]:
    """All texts in a table of transformers' `auto` folder: families and the classes that they have."""
    source = _models() / "auto" / file
    for node in _tree(source).body if source.is_file() else ():
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if ast.unparse(targets[0]) == table:
                return frozenset(
                    item.value
                    for item in ast.walk(node.value)
                    if isinstance(item, ast.Constant) and isinstance(item.value, str)
                )
    return frozenset()


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
