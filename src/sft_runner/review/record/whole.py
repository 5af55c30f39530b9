"""Whether what a row is made of is as the run wrote it: the run's own files and the manifests of its stages.

`sft-runner verify` hashes everything; here only what a row says is held against the seals, in milliseconds.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sft_runner import seal
from sft_runner.config.schema import Config, build
from sft_runner.config.sources import shown
from sft_runner.evaluation import gates
from sft_runner.planning import wanted
from sft_runner.report.record import Record
from sft_runner.review.record.made import STAGE
from sft_runner.review.verify import folder as run_folder
from sft_runner.review.verify import reading, vouching
from sft_runner.review.verify.finding import DAMAGE
from sft_runner.review.verify.hashing import Hasher
from sft_runner.runs import CONFIG, PLAN, STATE
from sft_runner.seal import SEAL, Facts
from sft_runner.store import MANIFEST, Store

READ = (SEAL, STATE, CONFIG, PLAN)
"""The files of a run folder that a row is made of."""


@dataclass(frozen=True)
class Held:
    """What a row is made of, held against the seals."""

    damage: tuple[str, ...]
    """What no seal knows as it is; nothing where the run has no seal to hold it against."""
    anew: tuple[str, ...]
    """The stages that were made anew since, from the same: their own seals vouch for them, and not the run's."""


def held(record: Record) -> Held:
    """Hold the run's own files, and the manifests of the stages up to `evaluate`, against the seals."""
    damage, anew = list[str](), list[str]()
    said = run_folder.said(record.folder)
    part = run_folder.check(record.folder, record.output_dir, said, Hasher(), record.label)
    for finding in part.of(DAMAGE):
        if Path(finding.place).name in READ:
            damage.append(f"{finding.place} {finding.what}")
    for stage in wanted(STAGE):
        place = Store(record.output_dir).folder(stage, said.stages.get(stage, "none"))
        if not place.is_dir():
            continue  # cleaned up: what a row says of it is in run.json
        content = reading.content(place / MANIFEST)
        if content is None:
            damage.append(f"{shown(place / MANIFEST)} is not there, or no file")
            continue
        manifest = seal.facts_of(content)
        if _knows(vouching.sealed(record.folder, stage), manifest):
            continue
        if _vouches(place, manifest):
            anew.append(stage)
        else:
            damage.append(f"{shown(place / MANIFEST)} was changed")
    return Held(tuple(damage), tuple(anew))


def is_sealed(record: Record) -> bool:
    """Whether anything says what the run wrote; of one of an earlier version nothing does."""
    return (record.folder / SEAL).is_file()


def judged(record: Record) -> Record:
    """The run with its gates judged again by its scores; as it says itself where those or its settings are gone."""
    if STAGE not in record.manifests:
        return record
    try:
        verdicts = gates.judge(build(Config, dict(record.config)), record.manifests)
    except (TypeError, AttributeError, KeyError, ValueError):  # settings of another version, or damaged
        return record
    return replace(record, gates=tuple(map(asdict, verdicts)))


def _knows(known: vouching.Sealed | None, manifest: Facts) -> bool:
    """Whether the manifest is the one that the run's seal knows; without one, nobody can tell."""
    sealed = known.files.get(MANIFEST) if known else None
    return sealed is None or sealed == manifest


def _vouches(place: Path, manifest: Facts) -> bool:
    """Whether the seal in a stage's folder knows its manifest."""
    try:
        own = seal.read(place)
    except (OSError, ValueError):
        return False
    return own is not None and own["files"].get(MANIFEST) == manifest
