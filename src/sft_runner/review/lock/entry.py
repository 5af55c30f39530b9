"""What a lock holds of one recipe on one hardware preset."""

from dataclasses import dataclass, field
from typing import Any

OPEN = "open"
"""Stands for data that the recipe leaves to whoever runs it."""


@dataclass(frozen=True)
class Rows:
    """The bytes of one source of data."""

    sha256: str
    """Of its files, and of the names that are read too."""
    rows: int | None
    """How many rows are read of it; None where one of them cannot be read, which no lock says."""


@dataclass(frozen=True)
class Held:
    """The bytes of all sources."""

    sha256: str
    """Of all of them, as it counts in fingerprints, without a template's file."""
    sources: dict[str, Rows]
    """Each by its name."""


@dataclass(frozen=True)
class Weights:
    """The base model."""

    name: str
    """As `model.name` says, inside the project relative to it; a folder is told by its bytes, not by its name."""
    commit: str | None
    """Commit of a hub model; None for a folder."""
    sha256: str | None
    """Of its weights and configuration, and of code of its own; None for a hub model that was not at hand."""
    own_code: bool = False
    """Whether loading it runs code of its own."""


@dataclass(frozen=True)
class Entry:
    """What a recipe is made of on one preset."""

    words: tuple[str, ...]
    """Said on the command line besides `recipe=` and `hardware=`."""
    model: Weights
    """The base model."""
    tokenizer: str | None
    """SHA-256 of the tokenizer's files without the chat template; None where they were not at hand."""
    template: str | None
    """SHA-256 of the chat template that is trained with, `none` where the model has none; None where it was not at
    hand."""
    data: Held | None
    """What is learned from; None where the recipe leaves it open."""
    sets: Held | None
    """What else is scored; None where nothing is."""
    stages: dict[str, str]
    """Stage -> fingerprint, of those that have one."""
    versions: dict[str, int]
    """Stage -> its version."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Every setting that counts for a stage, and the gates."""
    libraries: dict[str, str | None] = field(default_factory=dict)
    """Package -> version without its local part; None where it was not installed."""
