"""Records that may be damaged: what is not of the right shape counts as not there, and no pipe is waited for."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sft_runner.seal import are_files, content_of


def content(path: Path) -> bytes | None:
    """The bytes of a file; None where they cannot be read."""
    try:
        return content_of(path)
    except OSError:
        return None


def mapping(found: Any) -> dict[str, Any]:
    """The same where it is a mapping; else an empty one."""
    return found if isinstance(found, dict) else {}


def record(text: bytes | None) -> dict[str, Any]:
    """A mapping in JSON; empty where it is none."""
    try:
        return mapping(json.loads(text or b""))
    except (ValueError, RecursionError):
        return {}


def settings(text: bytes | None) -> dict[str, Any]:
    """A mapping in YAML; empty where it is none."""
    try:
        return mapping(yaml.load(text or b"", Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))  # noqa: S506
    except Exception:  # PyYAML raises whatever a damaged value makes its constructors raise
        return {}


def manifest(text: bytes | None) -> dict[str, Any] | None:
    """A stage's manifest, if it is one."""
    found = record(text)
    maps, texts = ("config", "inputs", "metrics"), ("model", "data", "fingerprint")
    fine = (
        are_files(found.get("files"))
        and all(isinstance(found.get(key, {}), dict) for key in maps)
        and all(isinstance(found.get(key, ""), str) for key in texts)
    )
    return found if fine else None


def stages(plan: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, str]:
    """Stage -> fingerprint, as `plan.json` and `run.json` say; without what can be the name of no folder."""
    steps = plan.get("steps")
    found: dict[Any, Any] = {
        step.get("stage"): step.get("fingerprint")
        for step in (steps if isinstance(steps, list) else [])
        if isinstance(step, dict) and isinstance(step.get("stage"), str)
    }
    found |= mapping(state.get("stages"))
    return {name: mark for name, mark in found.items() if is_word(name) and is_word(mark)}


def is_word(found: Any) -> bool:
    """Whether this may be the name of a stage, or a fingerprint."""
    return isinstance(found, str) and re.fullmatch(r"[\w-]{1,64}", found) is not None
