"""One stage of a run: every byte below its folder, its fingerprint, and that it was made from what it says."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sft_runner import seal
from sft_runner.config.sources import shown
from sft_runner.fingerprint import Ingredients
from sft_runner.review.verify import vouching
from sft_runner.review.verify.finding import DAMAGE, NOTE, UNCHECKED, Part
from sft_runner.review.verify.hashing import Hasher, measured
from sft_runner.review.verify.holding import hold, hold_start, missing
from sft_runner.review.verify.vouching import Sealed
from sft_runner.seal import SEAL, Facts
from sft_runner.store import EVENTS, LOG, MANIFEST, REQUEST, RESULT, Store

RECORDS = (REQUEST, RESULT, EVENTS, LOG, SEAL)
"""What is written beside a stage's output and read by no other stage."""


@dataclass(frozen=True)
class Asked:
    """A stage as the run has it."""

    name: str
    """`train`."""
    fingerprint: str
    """Its own."""
    inputs: Mapping[str, str]
    """Those of all stages of the run, by name."""
    run: Path
    """The run folder."""
    output_dir: Path
    """Where runs and stages lie."""
    made: bool | None
    """Whether the run made it or found it; None where it did not say so before it was killed, or is under way."""
    again: str
    """The command that makes it anew."""


def check(asked: Asked, hasher: Hasher) -> tuple[Part, Mapping[str, Any] | None]:
    """Hash a stage; what is found, and its manifest where that can be read.

    A stage that another run replaces meanwhile is looked at once more.
    """
    found = _once(asked, hasher)
    if found[0].of(DAMAGE) and _content(_folder(asked) / MANIFEST) != found[2]:
        found = _once(asked, hasher)
    return found[0], found[1]


def _once(asked: Asked, hasher: Hasher) -> tuple[Part, Mapping[str, Any] | None, bytes | None]:
    part = Part(asked.name, fingerprint=asked.fingerprint)
    content, manifest = _content(_folder(asked) / MANIFEST), None
    with measured(part, hasher):
        if _folder(asked).is_dir():
            manifest = _looked_at(asked, content, part, hasher)
        elif _folder(asked).with_name(f"{asked.fingerprint}.replaced").is_dir():
            part.add(
                UNCHECKED, asked.name, "who made it anew was killed just then; the same command goes on from there"
            )
        elif asked.made:
            part.add(DAMAGE, shown(_folder(asked)), "the folder is not there", remedy=_remedy(asked))
        elif asked.made is None:
            part.add(UNCHECKED, asked.name, "it is not complete, and nothing of it was checked")
        else:
            part.add(NOTE, asked.name, "the run ended without it")
    return part, manifest, content


def _looked_at(asked: Asked, content: bytes | None, part: Part, hasher: Hasher) -> Mapping[str, Any] | None:
    """Everything in a folder that is there."""
    folder = _folder(asked)
    manifest = _manifest(content)
    listed: dict[str, Facts] = manifest["files"] if manifest else {}
    extra = [name for name in seal.unlisted(folder, listed) if name != SEAL]
    facts = hasher.all(folder / name for name in (*listed, *extra))
    own = _own_seal(asked, part)
    known = _known(asked, own, content, manifest, part)
    entries = {**(own or {}), **(known.files if known else {})}
    if SEAL in entries and not any(found.place == shown(folder / SEAL) for found in part.findings):
        hold(part, folder / SEAL, entries[SEAL], hasher.all([folder / SEAL])[folder / SEAL], _remedy(asked, SEAL))
    entries.pop(SEAL, None)
    for name, wanted in sorted(listed.items()):
        hold(part, folder / name, wanted, facts[folder / name], _remedy(asked))
    if manifest:
        _said(asked, manifest, part)
    elif MANIFEST not in entries:
        what = "no manifest can be read in it" if content else "is not there"
        part.add(DAMAGE, shown(folder / MANIFEST), what, remedy=_remedy(asked))
    for name in sorted(entries):
        path, wanted = folder / name, entries[name]
        if name == LOG and not (known and name in known.files):
            hold_start(part, path, wanted, hasher, _remedy(asked, name))
        else:
            hold(part, path, wanted, facts.get(path) or missing(path), _remedy(asked, name))
    _unknown(folder, [name for name in extra if name not in entries], part, manifest is None, not entries)
    return manifest


def _unknown(folder: Path, names: list[str], part: Part, unlisted: bool, unsealed: bool) -> None:
    """Files that no manifest and no seal knows."""
    for name in names:
        if unsealed and name in (*RECORDS, MANIFEST):
            part.add(UNCHECKED, shown(folder / name), "no seal knows it")
        elif not unlisted:
            part.add(DAMAGE, shown(folder / name), "was added: no manifest and no seal knows it", remedy="remove it")
    if left := [name for name in names if name not in (*RECORDS, MANIFEST)] if unlisted else []:
        part.add(UNCHECKED, shown(folder), f"{len(left):,} files that only its manifest could tell about")


def _manifest(content: bytes | None) -> dict[str, Any] | None:
    """The manifest, if it is one."""
    try:
        found = json.loads(content or b"")
    except (ValueError, RecursionError):
        return None
    files = found.get("files") if isinstance(found, dict) else None
    if not isinstance(files, dict) or not all(isinstance(facts, dict) for facts in files.values()):
        return None
    return found if isinstance(found, dict) else None


def _own_seal(asked: Asked, part: Part) -> Mapping[str, Facts] | None:
    """What the seal in the folder says; None where there is none, or it is damaged."""
    folder = _folder(asked)
    try:
        found = seal.read(folder)
    except (OSError, ValueError) as error:
        what = f"the seal is not as it was written: {error}"
        part.add(DAMAGE, shown(folder / SEAL), what, remedy=_remedy(asked, SEAL))
        return None
    return found["files"] if found else None


def _known(
    asked: Asked, own: Mapping[str, Facts] | None, content: bytes | None, manifest: Mapping[str, Any] | None, part: Part
) -> Sealed | None:
    """What a run's seal says of the stage.

    That is this run's seal; where the stage was made anew since, or this run has no seal, that of a run which saw the
    manifest that is there. A manifest that no run saw is a damaged one, unless its folder's own seal vouches for it:
    then it was made by a run that was killed.
    """
    mine = vouching.sealed(asked.run, asked.name)
    if mine and mine.fingerprint != asked.fingerprint:
        mine = None
    sha = seal.facts_of(content)["sha256"] if content else ""
    if mine and mine.files.get(MANIFEST, {}).get("sha256") == sha:
        return mine
    other = vouching.by_another(asked.output_dir, asked.run, asked.name, asked.fingerprint, sha) if sha else None
    if mine is None or manifest is None:
        return mine or other
    made = f"was made anew on {manifest.get('created')}, and is not what this run made"
    if other:
        part.add(NOTE, asked.name, f"{made}, but {other.run}; what came behind it here was made from the earlier one")
        return other
    if own and own.get(MANIFEST, {}).get("sha256") == sha:
        part.add(UNCHECKED, asked.name, f"{made}; no run that has ended knows it, so only its own seal could be asked")
        return None
    return mine


def _said(asked: Asked, manifest: Mapping[str, Any], part: Part) -> None:
    """What a manifest says of itself: its fingerprint, what that is made of, and what came before."""
    place = shown(_folder(asked) / MANIFEST)
    said = str(manifest.get("fingerprint"))
    if said != asked.fingerprint:
        part.add(DAMAGE, place, "it is of another stage", asked.fingerprint, said, _remedy(asked))
    names = [item.name for item in fields(Ingredients)]
    if any(name not in manifest for name in names):
        part.add(DAMAGE, place, "lacks what its fingerprint is made of", remedy=_remedy(asked))
        return
    made = Ingredients(**{name: manifest[name] for name in names})
    if made.fingerprint() != said:
        what = "its fingerprint is not that of what it says it was made of"
        part.add(DAMAGE, place, what, said, made.fingerprint(), _remedy(asked))
    for name, fingerprint in dict(made.inputs).items():
        if asked.inputs.get(name) != fingerprint:
            what = f"it was made from another {name} than the run's"
            part.add(DAMAGE, place, what, str(asked.inputs.get(name)), str(fingerprint), _remedy(asked))


def _remedy(asked: Asked, name: str = "") -> str:
    if name in RECORDS:
        return f"it is a record that no stage reads: copy it back, or {asked.again}"
    return asked.again


def _folder(asked: Asked) -> Path:
    return Store(asked.output_dir).folder(asked.name, asked.fingerprint)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
