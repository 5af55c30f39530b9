"""Seals: the SHA-256 of what no manifest lists, so that a byte that changes later is found.

A stage's seal is written just before its manifest, and holds that too: everything in the folder that the manifest does
not list. Its log may still grow then, and counts as far as it was written. A run's seal is written when the run has
ended: the run folder's own files, its links, and of each stage what its manifest does not list, the log as a whole.

A seal is one JSON file with a digest of its own text. Whoever writes a file of a sealed run anew renews the seal, in an
order in which a kill between any two lines leaves a true one.
"""

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from sft_runner.disk import sync_and_hash, write_bytes
from sft_runner.errors import MachineError

SEAL, LOCK = "seal.json", ".lock"
ASIDE = re.compile(r"\..+\.\d+\.tmp")
"""Names of files that are being written; one that a kill left behind means nothing."""
SECONDS = 10.0
"""How long to wait for another command that renews the same seal."""
Facts = dict[str, Any]
"""`{"size": bytes, "sha256": hexadecimal}`."""


def of_stage(folder: Path, listed: Collection[str], manifest: str, content: bytes) -> None:
    """Seal a stage's folder: all that its manifest does not list, and the manifest `content` that comes next."""
    files = {name: sync_and_hash(folder / name) for name in unlisted(folder, listed) if name != SEAL}
    _write(folder, {"files": {**files, manifest: facts_of(content)}})


def of_run(folder: Path, stages: Mapping[str, tuple[Path, Collection[str]]]) -> None:
    """Seal a run that has ended; `stages` are the folders of those that are complete, and what their manifests list."""
    own = [name for name in unlisted(folder, ()) if name not in (SEAL, LOCK)]
    values = {
        "sealed": datetime.now().astimezone().isoformat(timespec="seconds"),
        "files": {name: sync_and_hash(folder / name) for name in own},
        "links": links(folder),
        "stages": {
            stage: {
                "fingerprint": place.name,
                "files": {name: sync_and_hash(place / name) for name in unlisted(place, listed)},
            }
            for stage, (place, listed) in stages.items()
        },
    }
    _write(folder, values)


def rewrite(folder: Path, files: Mapping[str, bytes], held: bool = False, from_itself: bool = False) -> None:
    """Write files of a run folder anew, and renew its seal where it has one.

    `held`: this process holds the run's lock. `from_itself`: the files are made from what they said before, so that one
    that was damaged stays one. Raises `MachineError` where the disk is full or another command holds the run.
    """
    if not (folder / SEAL).is_file():
        _put(folder, files)
        if held or not (folder / SEAL).is_file():
            return  # else it was sealed while this was written, and knows the files of before
    try:
        with nullcontext() if held else FileLock(folder / LOCK, timeout=SECONDS):
            _renew(folder, files, from_itself)
    except TimeoutError:
        raise MachineError(f"{folder}: another command works on this run", "try again once it has ended") from None


def read(folder: Path) -> dict[str, Any] | None:
    """The seal of a run or a stage; None where there is none. Raises `ValueError` where it is not as it was written."""
    try:
        content = (folder / SEAL).read_bytes()
    except FileNotFoundError:
        return None
    values = json.loads(content)
    if not isinstance(values, dict) or values.pop("digest", None) is None or _text(values) != content:
        raise ValueError("its text does not have the digest that it names")
    return values


def unlisted(folder: Path, listed: Collection[str]) -> list[str]:
    """The files below a folder that are not in `listed`, named from there; without links to folders."""
    found: list[str] = []
    for place, _, names in os.walk(folder):
        found += [(Path(place) / name).relative_to(folder).as_posix() for name in names if not ASIDE.fullmatch(name)]
    return sorted(name for name in set(found) - set(listed) if os.path.isfile(folder / name))


def links(folder: Path) -> dict[str, str]:
    """The links to folders in a run folder, such as `model`, with what they say."""
    found = (path for path in sorted(folder.iterdir()) if path.is_symlink() and not path.is_file())
    return {path.name: os.readlink(path) for path in found}


def facts_of(content: bytes) -> Facts:
    """Size and hash of bytes."""
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _renew(folder: Path, files: Mapping[str, bytes], from_itself: bool) -> None:
    """The seal first names both what is there and what comes, then only what came."""
    try:
        values = read(folder)
    except (OSError, ValueError):  # a damaged seal stays one
        values = None
    if values is None:
        _put(folder, files)
        return
    known = dict(values["files"])
    for name, facts in values.pop("next", {}).items():  # of a renewal that was killed
        if _is(folder / name, [facts]):
            known[name] = facts
    renewed = {name: facts_of(content) for name, content in files.items()}
    if from_itself:
        renewed = {name: facts for name, facts in renewed.items() if _is(folder / name, [known.get(name)])}
    _write(folder, {**values, "files": known, "next": renewed})
    _put(folder, files)
    _write(folder, {**values, "files": known | renewed})


def _is(path: Path, known: Sequence[Facts | None]) -> bool:
    try:
        return facts_of(path.read_bytes()) in known
    except OSError:
        return False


def _put(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        write_bytes(folder / name, content)


def _write(folder: Path, values: Mapping[str, Any]) -> None:
    write_bytes(folder / SEAL, _text(values))


def _text(values: Mapping[str, Any]) -> bytes:
    """The seal's text: plain ASCII, since names of files may be no Unicode."""
    body = {"version": 1, **values}
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return (json.dumps({**body, "digest": digest}, indent=1) + "\n").encode()
