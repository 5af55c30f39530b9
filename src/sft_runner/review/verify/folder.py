"""The run folder itself: its own files, its links to what the stages made, and its seal."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_runner import report, seal
from sft_runner.config.sources import shown
from sft_runner.disk import read_json
from sft_runner.review.verify.finding import DAMAGE, NOTE, UNCHECKED, Part
from sft_runner.review.verify.hashing import Hasher, measured
from sft_runner.review.verify.holding import hold, missing
from sft_runner.runs import PLAN, STATE
from sft_runner.seal import LOCK, SEAL, Facts
from sft_runner.store import Store

LINKS = {"model": ("merge", "model"), "adapter": ("train", "adapter"), "export": ("export", "")}
"""Link in a run folder -> the stage whose output it leads to, and what of it."""


@dataclass(frozen=True)
class Said:
    """What a run says of itself, by what can be trusted most: its seal, then `run.json`, then `plan.json`."""

    stages: Mapping[str, str]
    """Stage -> fingerprint, in the order of the plan."""
    sealed: frozenset[str] | None
    """The stages that its seal knows; None where there is no seal, or a damaged one."""
    state: Mapping[str, Any]
    """What `run.json` says; empty where it cannot be read."""


def said(folder: Path) -> Said:
    """Read it; damaged files count for nothing."""
    plan, state = _mapping(read_json(folder / PLAN)), _mapping(read_json(folder / STATE))
    steps = [step for step in plan.get("steps") or () if isinstance(step, dict)]
    stages = {str(step.get("stage")): str(step.get("fingerprint")) for step in steps}
    stages |= {str(stage): str(fingerprint) for stage, fingerprint in _mapping(state.get("stages")).items()}
    try:
        known = seal.read(folder)
    except (OSError, ValueError):
        known = None
    entries = _mapping((known or {}).get("stages"))
    stages |= {stage: entry["fingerprint"] for stage, entry in entries.items()}
    return Said(stages, None if known is None else frozenset(entries), state)


def check(folder: Path, output_dir: Path, found: Said, hasher: Hasher, label: str) -> Part:
    """Hash a run folder's own files. One whose seal is renewed meanwhile is looked at once more."""
    before = _content(folder / SEAL)
    part = _once(folder, output_dir, found, hasher, label)
    if part.of(DAMAGE) and _content(folder / SEAL) != before:
        part = _once(folder, output_dir, found, hasher, label)
    return part


def _once(folder: Path, output_dir: Path, found: Said, hasher: Hasher, label: str) -> Part:
    part = Part("run")
    with measured(part, hasher):
        names = [name for name in seal.unlisted(folder, ()) if name not in (SEAL, LOCK)]
        facts = hasher.all(folder / name for name in names)
        try:
            values = seal.read(folder)
        except (OSError, ValueError) as error:
            what = f"the seal is not as it was written: {error}"
            part.add(DAMAGE, shown(folder / SEAL), what, remedy="copy it back: nothing else says what the others were")
            values = None
        if values:
            _files(folder, values, facts, part, label)
        else:
            _without_seal(folder, names, found, part)
        _links(folder, output_dir, found, values, part)
    return part


def _files(
    folder: Path, values: Mapping[str, Any], facts: Mapping[Path, Facts | OSError], part: Part, label: str
) -> None:
    """The files that the seal knows, and those that it does not."""
    coming = _mapping(values.get("next"))  # a renewal was killed: the file is as it was, or as it was to be
    for name, wanted in values["files"].items():
        path = folder / name
        actual = facts.get(path) or missing(path)
        if actual != coming.get(name):
            hold(part, path, wanted, actual, _remedy(name, label))
    known = {*values["files"], *(name for name in coming if facts.get(folder / name) == coming[name])}
    for path in sorted(set(facts) - {folder / name for name in known}):
        part.add(DAMAGE, shown(path), "was added: the run's seal does not know it", remedy="remove it")


def _without_seal(folder: Path, names: list[str], found: Said, part: Part) -> None:
    if found.state.get("sealed") and not (folder / SEAL).exists():
        part.add(DAMAGE, shown(folder / SEAL), "is not there, and run.json says that it was", remedy=_COPY)
    if not (folder / STATE).is_file():
        part.add(UNCHECKED, shown(folder / STATE), "is not there: the run was killed before it began, or it is lost")
    elif not found.state:
        part.add(DAMAGE, shown(folder / STATE), "is no JSON", remedy=_COPY)
    if names:
        why = "the run's seal is damaged or gone" if (folder / SEAL).exists() else "the run has no seal"
        part.add(UNCHECKED, shown(folder), f"{why}, so nothing says what these were: {', '.join(sorted(names))}")


def _links(folder: Path, output_dir: Path, found: Said, values: Mapping[str, Any] | None, part: Part) -> None:
    """The links lead to what the run's own stages made."""
    known = _mapping((values or {}).get("links"))
    for name, (stage, below) in LINKS.items():
        path, fingerprint = folder / name, found.stages.get(stage)
        target = Store(output_dir).folder(stage, fingerprint or "none") / below
        right = known.get(name) or os.path.relpath(target, folder)
        if path.is_symlink():
            if fingerprint is None or os.readlink(path) != right:
                part.add(DAMAGE, shown(path), "leads elsewhere", right, os.readlink(path), f"ln -sfn {right} {path}")
        elif path.exists():
            part.add(DAMAGE, shown(path), "is no link any more", right, remedy=f"remove it, then ln -s {right} {path}")
        elif name in known:
            part.add(DAMAGE, shown(path), "the link is not there", right, remedy=f"ln -s {right} {path}")
    for name in sorted(set(seal.links(folder)) - set(LINKS) - set(known)):
        kind = DAMAGE if values else NOTE
        part.add(kind, shown(folder / name), "the link was added", found=os.readlink(folder / name))


def _remedy(name: str, label: str) -> str:
    """What brings a file of a run folder back."""
    return f"sft-runner report {label}   writes it anew" if name in (report.PAGE, report.SUMMARY) else _COPY


_COPY = "copy it back from where it was kept; it is a record, and no stage reads it"


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _mapping(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}
