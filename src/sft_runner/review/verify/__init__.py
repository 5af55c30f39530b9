"""Whether a run is what it was: every byte from data to served model is hashed again and held against what was written.

Stages are held against their manifests and seals, the run folder against its seal, and what the run was made from
against the hashes in its manifests. Nothing is written, and no hash that was remembered is trusted.
"""

import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from sft_runner.config.schema import Config, build
from sft_runner.disk import read_json
from sft_runner.review.verify import folder as run_folder
from sft_runner.review.verify import outward, stage
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
    doing = [""]
    hasher = Hasher(lambda count: tell(doing[0], count))
    output_dir, label = folder.parents[2], f"{folder.parent.name}/{folder.name}"
    said = run_folder.said(folder)
    state = state_of(folder, str(said.state.get("state", "unknown")))
    parts: list[Part] = []
    manifests: dict[str, Mapping[str, Any]] = {}
    for name, fingerprint in said.stages.items():
        doing[0] = name
        made = state == "completed" or None if said.sealed is None else name in said.sealed
        asked = stage.Asked(name, fingerprint, said.stages, folder, output_dir, made, _again(said, name))
        part, manifest = stage.check(asked, hasher)
        parts.append(part)
        if manifest:
            manifests[name] = manifest
    doing[0] = "run"
    parts.append(run_folder.check(folder, output_dir, said, hasher, label))
    config, requests = _settings(folder, output_dir, said)
    if config and manifests:
        doing[0] = "what it was made from"
        parts += outward.check(outward.Made(config, Places(config, output_dir, requests), manifests), hasher)
    elif manifests:
        parts[-1].add(UNCHECKED, "data and base model", f"the run's {CONFIG} does not say what they were")
    return Verified(folder, label, state, tuple(parts), time.perf_counter() - began)


def _settings(folder: Path, output_dir: Path, said: Said) -> tuple[Config | None, dict[str, Mapping[str, Any]]]:
    """The run's settings, and what its stages were told; None where neither can be read."""
    store = Store(output_dir)
    told = {name: read_json(store.folder(name, fingerprint) / REQUEST) for name, fingerprint in said.stages.items()}
    requests = {name: found["config"] for name, found in told.items() if isinstance(found, dict) and "config" in found}
    for values in (_own(folder), *requests.values()):
        try:
            return build(Config, values), requests
        except (TypeError, AttributeError, KeyError):  # of another version, or damaged
            continue
    return None, requests


def _own(folder: Path) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load((folder / CONFIG).read_text(encoding="utf-8"), Loader=loader)  # noqa: S506
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _again(said: Said, name: str) -> str:
    """The command that makes a stage anew."""
    words = [str(word) for word in said.state.get("overrides") or () if not str(word).startswith("force=")]
    if not words:
        return f"run the same command with force=[{name}], which makes it anew"
    return f"{shlex.join(['sft-runner', *words, f'force=[{name}]'])}   makes it anew"
