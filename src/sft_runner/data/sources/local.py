"""Files and folders on this machine, and the data that comes with the package."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from sft_runner.data.sources import git
from sft_runner.data.sources.naming import shown
from sft_runner.errors import DataError, Mistake, suggestion
from sft_runner.masking import masked

_PACKAGE = Path(__file__).parents[2]
EMBEDDED = _PACKAGE / "embedded"
EXAMPLES = (_PACKAGE / "recipes/examples", _PACKAGE.parents[1] / "recipes/examples")
"""Where the data is that each shipped recipe can be tried with: in a wheel, and in a source checkout."""


@dataclass(frozen=True)
class LocalAddress:
    """A path, or `embedded:NAME`."""

    path: str
    """As written."""

    @property
    def name(self) -> str:
        """The name of the file or folder."""
        return self.path if self.path.startswith("embedded:") else shown(_absolute(self.path).name)

    def place(self) -> Path:
        """Its absolute path. Raises `DataError` where nothing is there."""
        if self.path.startswith("embedded:"):
            return _embedded(self.path.removeprefix("embedded:"))
        path = _absolute(self.path)
        if not path.exists():
            hint = f"from elsewhere it is hf://OWNER/NAME or {git.FORM}" if "://" in self.path else _sibling(path)
            text = f"data.path: there is no file or folder {masked(shown(self.path))}"
            raise DataError(text, hint, Mistake.MISSING_PATH)
        return path

    def fetch(self) -> None:
        """It is here already."""

    def chosen(self, names: Sequence[str]) -> Sequence[str]:
        """All files of a folder are meant."""
        return names


def _absolute(path: str) -> Path:
    """Links stay as they are, so that names in messages are the user's."""
    return Path(os.path.abspath(Path(path).expanduser()))


def _embedded(name: str) -> Path:
    shipped = [*EMBEDDED.glob("*.jsonl"), *(place for folder in EXAMPLES for place in folder.glob("[!._]*"))]
    known = {place.stem: place for place in sorted(shipped) if place.is_dir() or place.suffix == ".jsonl"}
    if name not in known:
        raise DataError(f"data.path: there is no embedded data set '{name}'", suggestion(name, [*known]))
    return known[name]


def _sibling(missing: Path) -> str:
    """A hint on a name beside the missing one that is almost the same."""
    folder = missing.parent
    if not folder.is_dir():
        return f"there is no folder {shown(str(folder))} either"
    close = get_close_matches(missing.name, [entry.name for entry in folder.iterdir()], n=1)
    return f"did you mean '{shown(close[0])}'?" if close else "a relative path starts at the folder you are in"
