"""What attempts at one training leave for the next one, so that a kill resets no budget and unlearns no lesson."""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sft_runner.disk import read_json, write_json
from sft_runner.training.divergence import Divergence
from sft_runner.training.memory import Descent, Rung

WRITTEN_SECONDS = 5.0
"""The clock is written down at most this often; a kill forgets no more."""
KEPT = ("seconds", "resumed", "descents", "divergences")
"""What is written."""


@dataclass
class Attempts:
    """The memory of all attempts at one training, on the disk."""

    path: Path
    """Its file."""
    seconds: float = 0.0
    """Time spent training."""
    resumed: list[int] = field(default_factory=list)
    """The steps that attempts went on from."""
    descents: list[Descent] = field(default_factory=list)
    """Steps down when memory ran out."""
    divergences: list[Divergence] = field(default_factory=list)
    """Where training diverged."""
    _ticked: float = field(default=0.0, init=False, repr=False)
    _written: float = field(default=0.0, init=False, repr=False)

    def rung(self, hardware: str, top: Rung) -> Rung:
        """Where to begin: at `top`, or lower where memory ran out on the same preset with the same plan."""
        found = [descent.taken for descent in self.descents if (descent.hardware, descent.top) == (hardware, top)]
        return found[-1] if found else top

    def start(self) -> None:
        """Training begins in this process."""
        self._ticked = self._written = time.monotonic()

    def tick(self, write: bool = False) -> None:
        """Add the time since the last call, and write it down now and then, or at once."""
        now = time.monotonic()
        self.seconds += now - self._ticked
        self._ticked = now
        if write or now - self._written > WRITTEN_SECONDS:
            self.write()
            self._written = now

    def write(self) -> None:
        """Bring it to the disk."""
        write_json(self.path, {key: value for key, value in asdict(self).items() if key in KEPT})


def load(path: Path) -> Attempts:
    """What earlier attempts wrote; a damaged file is none."""
    try:
        return _read(path, read_json(path) or {})
    except (AttributeError, KeyError, TypeError, ValueError):
        return Attempts(path)


def _read(path: Path, values: dict[str, Any]) -> Attempts:
    return Attempts(
        path,
        float(values.get("seconds", 0.0)),
        [int(step) for step in values.get("resumed", [])],
        [_descent(found) for found in values.get("descents", [])],
        [Divergence(**found) for found in values.get("divergences", [])],
    )


def _descent(values: dict[str, Any]) -> Descent:
    rungs = {name: Rung(**values[name]) for name in ("top", "left", "taken")}
    return Descent(**{**values, **rungs})
