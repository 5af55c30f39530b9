"""The run folder itself: its own files, its links to what the stages made, and its seal."""

import os
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_runner import report, seal
from sft_runner.config.sources import shown
from sft_runner.review.verify import reading
from sft_runner.review.verify.finding import DAMAGE, NOTE, UNCHECKED, Part
from sft_runner.review.verify.hashing import Hasher, measured
from sft_runner.review.verify.holding import hold, unlike
from sft_runner.runs import PLAN, STATE
from sft_runner.seal import FILE, LINK, LOCK, SEAL, Facts
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
    try:
        known = seal.read(folder)
    except (OSError, ValueError):
        known = None
    plan, state = (reading.record(_held(folder, name, known)) for name in (PLAN, STATE))
    entries = known.get("stages", {}) if known else {}
    stages = reading.stages(plan, state) | {
        stage: entry["fingerprint"] for stage, entry in entries.items() if reading.is_word(entry["fingerprint"])
    }
    return Said(stages, None if known is None else frozenset(entries), state)


def check(folder: Path, output_dir: Path, found: Said, hasher: Hasher, label: str) -> Part:
    """Hash a run folder's own files. One whose seal is renewed meanwhile is looked at once more."""
    before = reading.content(folder / SEAL)
    part = _once(folder, output_dir, found, hasher, label)
    if part.of(DAMAGE) and reading.content(folder / SEAL) != before:
        part = _once(folder, output_dir, found, hasher, label)
    return part


def _held(folder: Path, name: str, known: Mapping[str, Any] | None) -> bytes | None:
    """A file's bytes where they are those that the seal knows, or nothing is known of them."""
    content = reading.content(folder / name)
    wanted = [known[part].get(name) for part in ("files", "next") if part in known] if known else []
    return None if any(wanted) and content is not None and seal.facts_of(content) not in wanted else content


def _once(folder: Path, output_dir: Path, found: Said, hasher: Hasher, label: str) -> Part:
    part = Part("run")
    with measured(part, hasher):
        present = {name: kind for name, kind in seal.entries(folder).items() if not _is_own(folder, name, kind)}
        values, why = None, "the run has no seal"
        try:
            values = seal.read(folder)
        except seal.NewerSeal as error:
            why = f"its seal was {error}"
        except (OSError, ValueError) as error:
            why = "the run's seal is damaged"
            what = f"the seal is not as it was written: {error}"
            part.add(DAMAGE, shown(folder / SEAL), what, remedy="copy it back: nothing else says what the others were")
        known = {*values["files"]} if values else set()
        names = [name for name, kind in present.items() if kind == FILE and not _is_aside(name, known, values is None)]
        facts = hasher.all(folder / name for name in names)
        if values:
            _files(folder, values, facts, present, part, f"{label}{_where(output_dir)}")
            _strange(folder, values, present, part)
        else:
            _without_seal(folder, names, found, part, why)
        _links(folder, output_dir, found, values, part)
    return part


def _is_own(folder: Path, name: str, kind: str) -> bool:
    """Whether this is the seal itself, or the empty file by which a process holds the run."""
    return kind == FILE and (name == SEAL or name == LOCK and (folder / LOCK).stat().st_size == 0)


def _is_aside(name: str, known: Collection[str], any_name: bool) -> bool:
    """Whether a killed command left this beside a file of the run."""
    match = seal.ASIDE.fullmatch(name)
    return match is not None and (any_name or match[1] in (*known, SEAL, STATE, report.PAGE, report.SUMMARY))


def _where(output_dir: Path) -> str:
    """`--output-dir` for a command, where it is not the default."""
    own = output_dir.resolve() == Path("outputs").resolve()
    return "" if own else f" --output-dir {shlex.quote(shown(output_dir))}"


def _files(
    folder: Path,
    values: Mapping[str, Any],
    facts: Mapping[Path, Facts | OSError],
    present: Mapping[str, str],
    part: Part,
    label: str,
) -> None:
    """The files that the seal knows, and those that it does not."""
    coming = values.get("next", {})  # a renewal was killed: the file is as it was, or as it was to be
    for name, wanted in values["files"].items():
        path = folder / name
        actual = facts.get(path) or unlike(path, present.get(name))
        if actual != coming.get(name):
            hold(part, path, wanted, actual, _remedy(name, label))
    known = {*values["files"], *(name for name in coming if facts.get(folder / name) == coming[name])}
    for path in sorted(set(facts) - {folder / name for name in known}):
        part.add(DAMAGE, shown(path), "was added: the run's seal does not know it", remedy="remove it")


def _strange(folder: Path, values: Mapping[str, Any], present: Mapping[str, str], part: Part) -> None:
    """What is no file, and was not there."""
    others = values.get("others", {})
    for name, kind in present.items():
        if kind == FILE or name in LINKS or name in values["files"]:
            continue
        found = seal.described(folder / name, kind)
        if name == SEAL:
            part.add(DAMAGE, shown(folder / name), "is no file of the run any more", found=found, remedy=_COPY)
        elif others.get(name) != found:
            what = "was added: the run's seal does not know it"
            part.add(DAMAGE, shown(folder / name), what, others.get(name, ""), found, "remove it")


def _without_seal(folder: Path, names: list[str], found: Said, part: Part, why: str) -> None:
    if found.state.get("sealed") and not (folder / SEAL).exists():
        part.add(DAMAGE, shown(folder / SEAL), "is not there, and run.json says that it was", remedy=_COPY)
    if not (folder / STATE).exists():
        part.add(UNCHECKED, shown(folder / STATE), "is not there: the run was killed before it began, or it is lost")
    elif not found.state:
        part.add(DAMAGE, shown(folder / STATE), "is no JSON", remedy=_COPY)
    if names:
        part.add(UNCHECKED, shown(folder), f"{why}, so nothing says what these were: {', '.join(names)}")


def _links(folder: Path, output_dir: Path, found: Said, values: Mapping[str, Any] | None, part: Part) -> None:
    """The links lead to what the run's own stages made."""
    sealed = values.get("others", {}) if values else {}
    for name, (stage, below) in LINKS.items():
        path, fingerprint = folder / name, found.stages.get(stage)
        target = Store(output_dir).folder(stage, fingerprint or "none") / below
        right = sealed.get(name, "").removeprefix(f"{LINK} to ") or os.path.relpath(target, folder)
        remedy = f"ln -sfn {shlex.quote(right)} {shlex.quote(shown(path))}"
        if path.is_symlink():
            if fingerprint is None or os.readlink(path) != right:
                part.add(DAMAGE, shown(path), "leads elsewhere", right, os.readlink(path), remedy)
        elif path.exists():
            part.add(DAMAGE, shown(path), "is no link any more", right, remedy=f"remove it, then {remedy}")
        elif name in sealed:
            part.add(DAMAGE, shown(path), "the link is not there", right, remedy=remedy)
    for name, kind in seal.entries(folder).items() if values is None else ():
        if kind == LINK and name not in LINKS:
            part.add(NOTE, shown(folder / name), "the link was added", found=os.readlink(folder / name))


def _remedy(name: str, label: str) -> str:
    """What brings a file of a run folder back."""
    return f"sft-runner report {label}   writes it anew" if name in (report.PAGE, report.SUMMARY) else _COPY


_COPY = "copy it back from where it was kept; it is a record, and no stage reads it"
