"""Where the relative paths of a run's settings lead, from wherever a run is verified, also after its outputs moved."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config, Data
from sft_runner.errors import UserError
from sft_runner.model.continuing import in_folder


class Places:
    """The paths of a run's settings: from the folder in which it ran, and only where nothing is there any more from the
    folder that `outputs` lies in and the working directory."""

    def __init__(
        self, config: Config, output_dir: Path, requests: Mapping[str, Mapping[str, Any]], cwd: str | None = None
    ) -> None:
        asked = Path(config.output_dir).expanduser()
        above = output_dir.parents[len(asked.parts) - 1] if _ends(output_dir, asked) else output_dir.parent
        self.roots = [*([Path(cwd)] if cwd else _roots(config, requests)), above, Path.cwd()]
        self.output_dir = output_dir
        self.requests = requests
        """Stage -> the settings in its `stage.json`, in which the paths that were there are absolute."""

    def path(self, written: str | None) -> str | None:
        """A path that is there, absolute; anything else as it was written."""
        if not written or ":" in written or Path(written).expanduser().is_absolute():
            return written
        found = (root / written for root in self.roots)
        return next((str(path) for path in found if path.exists()), written)

    def data(self, data: Data) -> Data:
        """Where to learn from, with absolute paths."""
        sources = {
            name: {**entry, "path": self.path(entry.get("path"))} if isinstance(entry, Mapping) else entry
            for name, entry in data.sources.items()
        }
        template = self.path(data.template) if data.template.endswith((".jinja", ".j2")) else data.template
        return replace(data, path=self.path(data.path), sources=sources, template=template or data.template)

    def adapter(self) -> Path | None:
        """The adapter that the train stage was told to go on from, below the outputs where those have moved."""
        told = (self.requests.get("train", {}).get("train") or {}).get("continue_from")
        if not told:
            return None
        found = Path(told)
        if "stages" in found.parts and not found.exists():
            place = len(found.parts) - 1 - found.parts[::-1].index("stages")
            found = self.output_dir.joinpath(*found.parts[place:])
        try:
            return in_folder(found)
        except UserError:
            return None


def _roots(config: Config, requests: Mapping[str, Mapping[str, Any]]) -> list[Path]:
    """The folders in which the run may have been started, by what its stages were told; runs of earlier versions do
    not say it."""
    found: dict[Path, None] = {}
    for part, key in (("data", "path"), ("model", "name"), ("evaluate", "benchmarks_path")):
        written = Path(getattr(getattr(config, part), key) or "")
        for request in requests.values():
            told = Path(str((request.get(part) or {}).get(key) or ""))
            if told.is_absolute() and _ends(told, written):
                found[told.parents[len(written.parts) - 1]] = None
    return list(found)


def _ends(path: Path, end: Path) -> bool:
    """Whether a path ends in a relative one."""
    return not end.is_absolute() and 0 < len(end.parts) < len(path.parts) and path.parts[-len(end.parts) :] == end.parts
