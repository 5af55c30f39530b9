"""What the export stage left: every file with its size and hash."""

from collections.abc import Mapping
from dataclasses import dataclass

from sft_runner.report.course import size_of
from sft_runner.report.record import Record


@dataclass(frozen=True)
class Export:
    """One form of the model."""

    form: str
    """Its folder, such as `gguf`."""
    size: str
    """All its files together."""
    files: list[tuple[str, str, str]]
    """Name, size and SHA-256 of each."""


def exports(record: Record) -> list[Export]:
    """What was exported, by form; empty where nothing was."""
    forms: dict[str, list[tuple[str, int, str]]] = {}
    files = (record.manifests.get("export") or {}).get("files") or {}
    for name, facts in sorted(files.items()):
        form, _, inside = str(name).partition("/")
        if inside and isinstance(facts, Mapping):
            forms.setdefault(form, []).append((inside, int(facts.get("size", 0)), str(facts.get("sha256", ""))))
    return [
        Export(form, size_of(sum(size for _, size, _ in inside)), [(n, size_of(size), sha) for n, size, sha in inside])
        for form, inside in forms.items()
    ]
