"""Seals that say what a stage's unlisted files are: the run's own, or that of another run with the same stage."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sft_runner import seal
from sft_runner.seal import MANIFEST, Facts


@dataclass(frozen=True)
class Sealed:
    """What a run's seal says of one stage."""

    run: str
    """`<name>/<time>-<hex>` of the run."""
    fingerprint: str
    """Of the stage."""
    files: Mapping[str, Facts]
    """What its manifest does not list, and the manifest."""


def sealed(folder: Path, stage: str) -> Sealed | None:
    """What the seal of a run says of a stage; None where it says nothing, or is damaged."""
    try:
        values = seal.read(folder) or {}
    except (OSError, ValueError):
        return None
    entry = values.get("stages", {}).get(stage)
    if not entry:
        return None
    label = f"{folder.parent.name}/{folder.name}"
    return Sealed(label, entry["fingerprint"], entry["files"])


def by_another(output_dir: Path, run: Path, stage: str, fingerprint: str, manifest: Facts) -> Sealed | None:
    """What another run's seal says of the stage whose manifest is this one; None where no seal knows it."""
    for folder in _others(output_dir, run):
        found = sealed(folder, stage)
        if found and found.fingerprint == fingerprint and found.files.get(MANIFEST) == manifest:
            return found
    return None


def _others(output_dir: Path, run: Path) -> Iterator[Path]:
    """The other run folders, the newest first."""
    folders = sorted((output_dir / "runs").glob("*/*/"), key=lambda path: path.name, reverse=True)
    return (folder for folder in folders if folder != run)
