"""The settings of a run with their origins, in the order of the schema."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sft_runner import fingerprint
from sft_runner.config import values
from sft_runner.config.layers import Layers, Place, settled
from sft_runner.config.schema import flatten
from sft_runner.review.explain.setting import reason
from sft_runner.stages import STAGES


@dataclass(frozen=True)
class Entry:
    """One setting, or with a free name one line of it."""

    path: tuple[str, ...]
    """Its path."""
    value: Any
    """What runs; a mapping only where it is empty."""
    place: Place | None
    """Where it is said; None where it was filled in."""
    reason: str
    """Why it was filled in; empty where it was not."""

    @property
    def origin(self) -> str:
        """`recipes/code.yaml:7`, `default`, `hardware=rtx3060 (conf/hardware/rtx3060.yaml:7)`, `command line` or
        `filled in: 2 * lora.r`."""
        if self.place is None:
            return f"filled in: {self.reason}"
        if self.place.layer == "schema":
            return "default"
        group = self.place.layer.partition("=")[0]
        known = self.place.file is None or group in ("recipe", "local") or "/" in group
        return self.place.short if known else f"{self.place.layer} ({self.place.short})"


def entries(found: Layers, everything: bool) -> list[Entry]:
    """The settings that somebody said, that were filled in, or that count in a fingerprint; or `everything`. Raises
    `UserError`."""
    run = settled(found)
    counting = {key for stage in STAGES.values() for key in fingerprint.read_by(stage, run.config)}
    made: list[Entry] = []
    for key, (value, marks) in flatten(run.config).items():
        why = reason(key, run)
        said = found.said[key]
        if marks.get("found") or not (everything or why or len(said) > 1 or key in counting):
            continue
        place = None if why else said[-1].place
        path = tuple(key.split("."))
        if values.free(key) and value:
            made += [Entry((*path, *below), one, place and found.inside.get(".".join((key, *below)), place), why)
                     for below, one in _leaves(value, ())]  # fmt: skip
        else:
            made.append(Entry(path, value, place, why))
    return made


def _leaves(value: dict[str, Any], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value below a mapping that is no mapping itself, or an empty one."""
    for name, entry in value.items():
        if isinstance(entry, dict) and entry:
            yield from _leaves(entry, (*above, name))
        else:
            yield (*above, name), entry
