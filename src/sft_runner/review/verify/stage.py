"""One stage of a run: every byte below its folder, its fingerprint, and that it was made from what it says."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from sft_runner import seal
from sft_runner.config.sources import shown
from sft_runner.fingerprint import Ingredients
from sft_runner.review.verify import reading, vouching
from sft_runner.review.verify.finding import DAMAGE, NOTE, UNCHECKED, Part
from sft_runner.review.verify.hashing import Hasher, measured
from sft_runner.review.verify.holding import hold, hold_start, unlike
from sft_runner.seal import FILE, FOLDER, LINK, SEAL, Facts
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

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return Store(self.output_dir).folder(self.name, self.fingerprint)


@dataclass(frozen=True)
class Known:
    """What is known of the files in a stage's folder that its manifest does not list, and of the manifest."""

    own: Mapping[str, Any] | None
    """The seal in the folder; None where there is none, or it is damaged."""
    files: Mapping[str, Facts]
    """What runs' seals say."""

    def wanted(self, name: str) -> list[Facts]:
        """What all seals say of a file."""
        said = [self.files[name]] if name in self.files else []
        own = self.of_own.get(name)
        return said if own is None or own in said else [own, *said]

    @property
    def of_own(self) -> Mapping[str, Facts]:
        """What the seal in the folder says."""
        return self.own["files"] if self.own else {}


def check(asked: Asked, hasher: Hasher) -> tuple[Part, Mapping[str, Any] | None]:
    """Hash a stage; what is found, and its manifest where that can be read and is as it was written.

    A stage that another run replaces meanwhile is looked at once more.
    """
    found = _once(asked, hasher)
    if found[0].of(DAMAGE) and reading.content(asked.folder / MANIFEST) != found[2]:
        found = _once(asked, hasher)
    return found[0], None if found[0].damaged(shown(asked.folder / MANIFEST)) else found[1]


def _once(asked: Asked, hasher: Hasher) -> tuple[Part, Mapping[str, Any] | None, bytes | None]:
    part = Part(asked.name, fingerprint=asked.fingerprint)
    content, manifest = reading.content(asked.folder / MANIFEST), None
    with measured(part, hasher):
        if asked.folder.is_dir():
            manifest = _looked_at(asked, content, part, hasher)
        elif asked.folder.with_name(f"{asked.fingerprint}.replaced").is_dir():
            part.add(
                UNCHECKED, asked.name, "who made it anew was killed just then; the same command goes on from there"
            )
        elif asked.made:
            part.add(DAMAGE, shown(asked.folder), "the folder is not there", remedy=_remedy(asked))
        elif asked.made is None:
            part.add(UNCHECKED, asked.name, "it is not complete, and nothing of it was checked")
        else:
            part.add(NOTE, asked.name, "the run ended without it")
    return part, manifest, content


def _looked_at(asked: Asked, content: bytes | None, part: Part, hasher: Hasher) -> Mapping[str, Any] | None:
    """Everything in a folder that is there."""
    folder, manifest = asked.folder, reading.manifest(content)
    listed: dict[str, Facts] = manifest["files"] if manifest else {}
    present = seal.entries(folder)
    known = _known(asked, _own_seal(asked, part), content, manifest, part)
    others: Mapping[str, str] = known.own.get("others", {}) if known.own else {}
    same = {name for name, what in others.items() if _is(folder, name, present, what)}
    files = {name for name, kind in present.items() if kind == FILE or (name in same and name in listed)}
    facts = hasher.all(folder / name for name in sorted(files))
    unlisted = (set(known.files) | set(known.of_own)) - set(listed)
    if part.damaged(shown(folder / SEAL)):
        unlisted.discard(SEAL)
    for name in sorted({*listed, *unlisted}):
        path = folder / name
        actual = facts[path] if name in files else unlike(path, present.get(name))
        if name in listed:
            hold(part, path, listed[name], actual, _remedy(asked))
        elif name == LOG and not isinstance(actual, OSError):
            _log(part, path, known, actual, hasher, _remedy(asked, name))
        else:
            for wanted in known.wanted(name):
                if not part.damaged(shown(path)):
                    hold(part, path, wanted, actual, _remedy(asked, name))
    if manifest:
        _said(asked, manifest, part, known.wanted(MANIFEST) == [seal.facts_of(content or b"")])
    elif not known.wanted(MANIFEST):
        what = "no manifest can be read in it" if content else "is not there"
        part.add(DAMAGE, shown(folder / MANIFEST), what, remedy=_remedy(asked))
    for name in sorted(set(others) - set(present) - set(listed)):
        if others[name].startswith(LINK):
            part.add(DAMAGE, shown(folder / name), "is not there", others[name], remedy=_remedy(asked))
    expected = {*listed, *unlisted, *same, SEAL}
    emptied = {place.as_posix() for name in expected for place in PurePosixPath(name).parents}  # its files are gone
    strange = {
        name: kind
        for name, kind in present.items()
        if name not in expected and not (kind == FOLDER and name in emptied)
    }
    _unknown(asked, strange, part, known, manifest is None)
    return manifest


def _unknown(asked: Asked, names: Mapping[str, str], part: Part, known: Known, unlisted: bool) -> None:
    """Entries that no manifest and no seal knows."""
    folder = asked.folder
    records = [name for name in names if name in (*RECORDS, MANIFEST) and known.own is None]
    if known.own is None and SEAL not in known.files and not part.findings_at(shown(folder / SEAL)):
        why = "it has no seal, as stages of earlier versions have none, or it is lost"
        told = f", so nothing says what these were: {', '.join(records)}" if records else ""
        part.add(UNCHECKED, shown(folder), f"{why}{told}")
    elif records:
        part.add(UNCHECKED, shown(folder), f"no seal that can be read knows {', '.join(records)}")
    left = {name: kind for name, kind in names.items() if name not in records}
    if unlisted and left:
        part.add(UNCHECKED, shown(folder), f"{len(left):,} files that only its manifest could tell about")
    for name, kind in left.items() if not unlisted else ():
        what = "was added: no manifest and no seal knows it"
        part.add(DAMAGE, shown(folder / name), what, found=_told(folder / name, kind), remedy="remove it")


def _log(part: Part, path: Path, known: Known, actual: Facts, hasher: Hasher, remedy: str) -> None:
    """The stage's own seal knows a log's beginning; that of a run, which holds no other beginning, knows all of it."""
    start, whole = known.of_own.get(LOG), known.files.get(LOG)
    if whole:
        hold(part, path, whole, actual, remedy)
    elif start:
        hold_start(part, path, start, hasher, remedy)


def _own_seal(asked: Asked, part: Part) -> Mapping[str, Any] | None:
    """What the seal in the folder says; None where there is none, or it is damaged."""
    try:
        return seal.read(asked.folder)
    except seal.NewerSeal as error:
        part.add(UNCHECKED, shown(asked.folder / SEAL), str(error))
    except (OSError, ValueError) as error:
        what = f"the seal is not as it was written: {error}"
        part.add(DAMAGE, shown(asked.folder / SEAL), what, remedy=_remedy(asked, SEAL))
    return None


def _known(
    asked: Asked,
    own: Mapping[str, Any] | None,
    content: bytes | None,
    manifest: Mapping[str, Any] | None,
    part: Part,
) -> Known:
    """What the seals say of the stage: its own, this run's, and where that knows too little another run's.

    A manifest that this run did not read is a damaged one, unless its folder's own seal vouches for it: then the stage
    was made anew since. No other run's seal vouches for it alone, as that run may have read a damaged one.
    """
    mine = vouching.sealed(asked.run, asked.name)
    if mine and mine.fingerprint != asked.fingerprint:
        mine = None
    there = seal.facts_of(content) if content is not None else None
    is_own = own is not None and own["files"].get(MANIFEST) == there
    is_mine = mine is not None and mine.files.get(MANIFEST) == there
    if mine and (SEAL in mine.files and is_mine or not is_mine and not is_own):
        return Known(own, mine.files)
    other = None
    if there and (own is None or is_own):
        other = vouching.by_another(asked.output_dir, asked.run, asked.name, asked.fingerprint, there)
    files = other.files if other else {}
    if mine is None or is_mine:
        return Known(own, {**files, **(mine.files if mine else {})})
    made = f"was made anew on {(manifest or {}).get('created')}, and is not what this run made"
    if other:
        part.add(NOTE, asked.name, f"{made}, but {other.run}; what came behind it here was made from the earlier one")
    else:
        part.add(UNCHECKED, asked.name, f"{made}; no run that has ended knows it, so only its own seal could be asked")
    return Known(own, files)


def _said(asked: Asked, manifest: Mapping[str, Any], part: Part, sealed: bool) -> None:
    """What a manifest says of itself: its fingerprint, what that is made of, and what came before."""
    place = shown(asked.folder / MANIFEST)
    said = str(manifest.get("fingerprint"))
    if said != asked.fingerprint:
        part.add(DAMAGE, place, "it is of another stage", asked.fingerprint, said, _remedy(asked))
    names = [item.name for item in fields(Ingredients)]
    if lacking := [name for name in names if name not in manifest]:
        if sealed:  # by another version
            part.add(UNCHECKED, place, f"its fingerprint: it does not say {', '.join(lacking)}")
        else:
            part.add(
                DAMAGE, place, f"lacks what its fingerprint is made of: {', '.join(lacking)}", remedy=_remedy(asked)
            )
        return
    made = Ingredients(**{name: manifest[name] for name in names})
    if made.fingerprint() != said:
        what = "its fingerprint is not that of what it says it was made of"
        part.add(DAMAGE, place, what, said, made.fingerprint(), _remedy(asked))
    for name, fingerprint in made.inputs.items():
        if asked.inputs.get(name) != fingerprint:
            what = f"it was made from another {name} than the run's"
            part.add(DAMAGE, place, what, str(asked.inputs.get(name)), str(fingerprint), _remedy(asked))


def _is(folder: Path, name: str, present: Mapping[str, str], what: str) -> bool:
    return name in present and _told(folder / name, present[name]) == what


def _told(path: Path, kind: str) -> str:
    """What an entry is that is no file; of files nothing."""
    try:
        return "" if kind == FILE else seal.described(path, kind)
    except OSError:
        return kind


def _remedy(asked: Asked, name: str = "") -> str:
    if name in RECORDS:
        return f"it is a record that no stage reads: copy it back, or {asked.again}"
    return asked.again
