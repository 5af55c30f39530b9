"""Whether a run is what it was: every byte from data to served model is hashed again and held against what was written.

Stages are held against their manifests and seals, the run folder against its seal, and what the run was made from
against the hashes in its manifests. Nothing is written, and no hash that was remembered is trusted.
"""

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config, build
from sft_runner.config.sources import shown
from sft_runner.review.verify import folder as run_folder
from sft_runner.review.verify import outward, reading, stage
from sft_runner.review.verify.finding import CHANGED, DAMAGE, NOTE, UNCHECKED, Finding, Part
from sft_runner.review.verify.folder import Said
from sft_runner.review.verify.hashing import Hasher
from sft_runner.review.verify.places import Places
from sft_runner.runs import CONFIG, state_of
from sft_runner.store import REQUEST, Store

Tell = Callable[[str, int], None]
"""Hears the name of what is hashed, and of the bytes as they are read."""


@dataclass(frozen=True)
class Verified:
    """What came of verifying a run."""

    folder: Path
    """The run folder."""
    label: str
    """`<name>/<time>-<hex>`."""
    state: str
    """`completed`, `failed`, `cancelled`, `running`, `killed` or `unknown`."""
    parts: tuple[Part, ...]
    """Stages in their order, the run folder, then what it was made from."""
    seconds: float
    """How long it took."""

    def of(self, kind: str) -> list[Finding]:
        """All findings of a kind."""
        return [finding for part in self.parts for finding in part.of(kind)]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "run": self.label,
            "folder": str(self.folder),
            "state": self.state,
            "damaged": [asdict(finding) for finding in self.of(DAMAGE)],
            "changed": [asdict(finding) for finding in self.of(CHANGED)],
            "unchecked": [asdict(finding) for finding in self.of(UNCHECKED)],
            "notes": [asdict(finding) for finding in self.of(NOTE)],
            "parts": [
                {
                    "name": part.name,
                    "fingerprint": part.fingerprint or None,
                    "state": part.state,
                    "files": part.files,
                    "bytes": part.bytes,
                    "seconds": round(part.seconds, 3),
                }
                for part in self.parts
            ],
            "seconds": round(self.seconds, 3),
        }


def verify(folder: Path, tell: Tell = lambda name, count: None) -> Verified:
    """Verify the run of a run folder, which lies in `OUTPUT_DIR/runs/NAME`."""
    began = time.perf_counter()
    doing = [""]  # the meter's name for what is hashed
    hasher = Hasher(lambda count: tell(doing[0], count))
    output_dir, label = folder.parents[2], f"{folder.parent.name}/{folder.name}"
    said = run_folder.said(folder)
    state = _state(folder, said)
    parts: list[Part] = []
    manifests: dict[str, Mapping[str, Any]] = {}
    for name, fingerprint in said.stages.items():
        doing[0] = name
        made = (state == "completed" or None) if said.sealed is None else name in said.sealed
        asked = stage.Asked(name, fingerprint, said.stages, folder, output_dir, made, _again(said, name, output_dir))
        with _caught(parts, DAMAGE, name):
            part, manifest = stage.check(asked, hasher)
            parts.append(part)
            if manifest:
                manifests[name] = manifest
    doing[0] = "run"
    with _caught(parts, DAMAGE, "run"):
        parts.append(run_folder.check(folder, output_dir, said, hasher, label))
    doing[0] = "what it was made from"
    with _caught(parts, UNCHECKED, doing[0]):
        parts += _outward(folder, output_dir, said, parts, manifests, hasher)
    return Verified(folder, label, state, tuple(parts), time.perf_counter() - began)


@contextmanager
def _caught(parts: list[Part], kind: str, name: str) -> Iterator[None]:
    """What nobody thought of ends neither the other parts nor the account of them."""
    try:
        yield
    except Exception as error:
        parts.append(Part(name))
        parts[-1].add(kind, name, f"could not be checked: {type(error).__name__}: {error}")


def _state(folder: Path, said: Said) -> str:
    """How the run ended, as far as it can be told."""
    state = said.state.get("state")
    return state_of(folder, state) if isinstance(state, str) else "unknown"


def _outward(
    folder: Path,
    output_dir: Path,
    said: Said,
    parts: Sequence[Part],
    manifests: Mapping[str, Mapping[str, Any]],
    hasher: Hasher,
) -> list[Part]:
    """What the run was made from, by those of its records that are as they were written."""
    damaged = {finding.place for part in parts for finding in part.of(DAMAGE)}

    def content(path: Path) -> bytes | None:
        return None if shown(path) in damaged else reading.content(path)

    store, requests = Store(output_dir), {}
    for name, fingerprint in said.stages.items():
        found = reading.record(content(store.folder(name, fingerprint) / REQUEST))
        requests[name] = reading.mapping(found.get("config"))
    cwd = said.state.get("cwd")
    for values in (reading.settings(content(folder / CONFIG)), *requests.values()):
        with suppress(TypeError, AttributeError, KeyError, ValueError):  # of another version, or damaged
            if values and manifests:
                config = build(Config, values)
                places = Places(config, output_dir, requests, cwd if isinstance(cwd, str) else None)
                return outward.check(outward.Made(config, places, manifests), hasher)
    if not any(part.files for part in parts if part.fingerprint):
        return []
    part = Part("data and base model")
    part.add(UNCHECKED, part.name, "no record that is as it was written says what they were")
    return [part]


def _again(said: Said, name: str, output_dir: Path) -> str:
    """The command that makes a stage anew, also where `outputs` has moved since."""
    overrides = said.state.get("overrides")
    words = [str(word) for word in overrides or ()] if isinstance(overrides, list) else []
    words = [word for word in words if not word.startswith(("force=", "output_dir="))]
    if output_dir.resolve() != Path("outputs").resolve():
        words.append(f"output_dir={shown(output_dir)}")
    if not said.state.get("overrides"):
        return f"run the same command with force=[{name}], which makes it anew"
    return f"{shlex.join(['sft-runner', *words, f'force=[{name}]'])}   makes it anew"
