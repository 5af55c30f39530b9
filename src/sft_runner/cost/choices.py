"""The files of a config group as plain values, for what looks at many choices at once without composing each."""

from functools import cache
from typing import Any

import yaml

from sft_runner.config.sources import folders

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def choices(group: str) -> dict[str, dict[str, Any]]:
    """Name -> values of every file of a group; of two with one name the user's own is taken."""
    found: dict[str, dict[str, Any]] = {}
    for folder in folders("conf"):
        for path in sorted((folder / group).glob("*.yaml")):
            found.setdefault(path.stem, yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader) or {})
    return found
