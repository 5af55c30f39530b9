"""Whether what a row is made of is as the run wrote it: the run's own files and the manifests of its stages.

`sft-runner verify` hashes everything; here only what a row says is held against the seals, in milliseconds.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from sft_runner import seal
from sft_runner.config.schema import Config, build
from sft_runner.config.sources import shown
from sft_runner.evaluation import gates
from sft_runner.report.record import Record
from sft_runner.review.record.made import STAGE
from sft_runner.review.verify import folder as run_folder
from sft_runner.review.verify import vouching
from sft_runner.review.verify.finding import DAMAGE
from sft_runner.review.verify.hashing import Hasher
from sft_runner.runs import CONFIG, PLAN, STATE
from sft_runner.seal import SEAL
from sft_runner.store import MANIFEST, Store

READ = (SEAL, STATE, CONFIG, PLAN)
"""The files of a run folder that a row is made of."""


def damage(record: Record) -> Iterator[str]:
    """What is not as the run wrote it; nothing where there is no seal to hold it against."""
    said = run_folder.said(record.folder)
    part = run_folder.check(record.folder, record.output_dir, said, Hasher(), record.label)
    for finding in part.of(DAMAGE):
        if Path(finding.place).name in READ:
            yield f"{finding.place} {finding.what}"
    for stage, fingerprint in said.stages.items():
        place = Store(record.output_dir).folder(stage, fingerprint)
        if (place / MANIFEST).is_file() and not _is_its_own(record, stage, place):
            yield f"{shown(place / MANIFEST)} was changed, or the stage was made anew since"


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


def _is_its_own(record: Record, stage: str, place: Path) -> bool:
    """Whether a stage's manifest is the one that the run's seal knows; without one, nobody can tell."""
    known = vouching.sealed(record.folder, stage)
    sealed = known.files.get(MANIFEST) if known else None
    return sealed is None or sealed == seal.facts_of((place / MANIFEST).read_bytes())
