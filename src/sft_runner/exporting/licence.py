"""Under which licence a tuned model goes on: that of its base, as the base's own files tell it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_runner.model.files import LICENCES

TEXTS = {
    "apache-2.0": "Apache License Version 2.0",
    "mit": "Permission is hereby granted, free of charge, to any person obtaining a copy",
    "gemma": "Gemma Terms of Use",
    "llama3.1": "LLAMA 3.1 COMMUNITY LICENSE AGREEMENT",
    "llama3.2": "LLAMA 3.2 COMMUNITY LICENSE AGREEMENT",
    "llama3.3": "LLAMA 3.3 COMMUNITY LICENSE AGREEMENT",
    "llama3": "META LLAMA 3 COMMUNITY LICENSE AGREEMENT",
}
"""The hub's name of a licence -> how its text begins."""
BEGINNING = 2000
"""Characters of a licence in which it says its name."""


@dataclass(frozen=True)
class Licence:
    """What the hub is told."""

    license: str = "unknown"
    """The hub's name for it, `other`, or `unknown` where the base has no licence file."""
    license_name: str = ""
    """Its name where the hub has none for it."""
    license_link: str = ""
    """Where its text is, in that case."""

    def metadata(self) -> dict[str, str]:
        """The lines of a card's front matter."""
        return {key: value for key, value in vars(self).items() if value}


def of(merged: Path, base: Path | None) -> Licence:
    """The licence that the base's card names, else the one whose text lies beside the weights."""
    named = front_matter(base / "README.md") if base else {}
    if isinstance(license := named.get("license"), str) and license:
        name, link = str(named.get("license_name") or ""), str(named.get("license_link") or "")
        return Licence(license, name, link if "://" in link or not link else "LICENSE")
    files = sorted(file for pattern in LICENCES[:2] for file in merged.glob(pattern))
    for file in files:
        text = " ".join(file.read_text(encoding="utf-8", errors="replace")[:BEGINNING].split()).lower()
        for known, beginning in TEXTS.items():
            if beginning.lower() in text:
                return Licence(known)
    return Licence("other", "base-model-license", files[0].name) if files else Licence()


def front_matter(card: Path) -> dict[str, Any]:
    """The metadata of a model's card; empty where there is none that can be read."""
    import yaml

    try:
        text = card.read_text(encoding="utf-8")
        found = re.match(r"---\s*\n(.*?)\n---\s*(?:\n|$)", text, re.DOTALL)
        values = yaml.safe_load(found.group(1)) if found else None
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}
