"""Names that only the installed libraries know, read from their source: importing them takes seconds."""

import ast
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config
from sft_runner.errors import UnknownName, UserError

SOURCES = {
    "hardware.optim": ("training_args.py", "OptimizerNames"),
    "train.lr_scheduler_type": ("trainer_utils.py", "SchedulerType"),
    "hardware.attn_implementation": ("modeling_utils.py", "AttentionInterface"),
}
"""Key -> file of transformers, and the class whose body has the names that the key takes."""
USUAL = {
    "hardware.optim": ("adamw_torch", "adamw_torch_fused", "paged_adamw_8bit"),
    "train.lr_scheduler_type": ("cosine", "linear", "constant"),
    "hardware.attn_implementation": ("eager", "sdpa", "flash_attention_2"),
}
"""Names for which nothing is read."""


def unknown(config: Config) -> Iterator[UserError]:
    """The names of a configuration that the installed transformers does not have."""
    for key, usual in USUAL.items():
        part, _, field = key.partition(".")
        name = getattr(getattr(config, part), field)
        if name is None or name in usual:
            continue
        known = names(key)
        if known and name not in known:
            yield UnknownName(f"{key}:", name, {*known, *usual})


@cache
def names(key: str) -> frozenset[str]:
    """The names that a key takes; empty where the installed source does not tell."""
    file, kind = SOURCES[key]
    spec = find_spec("transformers")
    source = Path(spec.submodule_search_locations[0], file) if spec and spec.submodule_search_locations else Path(file)
    body = _body(source, kind) if source.is_file() else []
    values = [line.value for line in body if isinstance(line, ast.Assign | ast.AnnAssign) and line.value is not None]
    return frozenset(text for value in values for text in _texts(value))


def _body(source: Path, kind: str) -> list[ast.stmt]:
    """What a class at the top of a file consists of."""
    tree: Any = ast.parse(source.read_text(encoding="utf-8"))
    return next((node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind), [])


def _texts(value: ast.expr) -> Iterator[str]:
    """A text, or the keys of a table."""
    for node in value.keys if isinstance(value, ast.Dict) else [value]:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "|" not in node.value:
            yield node.value
