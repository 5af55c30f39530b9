"""Seals: the SHA-256 of what no manifest lists, so that a byte that changes later is found.

A stage's seal is written just before its manifest, and holds that too: everything in the folder that the manifest does
not list. Its log may still grow then, and counts as far as it was written. A run's seal is written when the run has
ended: the run folder's own files, its links, and of each stage the manifest that the run read, with what the stage's
own seal says and the log as a whole. It vouches for nothing that a stage's own seal does not know.

A seal is one JSON file with a digest of its own text. Whoever writes a file of a sealed run anew renews the seal, in an
order in which a kill between any two lines leaves a true one.
"""

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from sft_runner.disk import json_bytes, sync_and_hash, write_bytes
from sft_runner.errors import MachineError

SEAL, LOCK = "seal.json", ".lock"
MANIFEST, STAGE_LOG = "manifest.json", "stage.log"
ASIDE = re.compile(r"\.(.+)\.\d+\.tmp")
"""Names of files that are being written; in a run folder, one that a kill left behind means nothing."""
FILE, LINK, FOLDER, OTHER = "file", "link", "empty folder", "no file"
"""Kinds of entries in a folder."""
VERSION = 1
"""Of what a seal says; its digest is made alike in all versions."""
SECONDS = 10.0
"""How long to wait for another command that renews the same seal."""
Facts = dict[str, Any]
"""`{"size": bytes, "sha256": hexadecimal}`."""


class NewerSeal(ValueError):
    """A seal whose words only a newer version knows."""


def of_stage(folder: Path, listed: Collection[str], content: bytes) -> None:
    """Seal a stage's folder: all that its manifest does not list, and the manifest `content` that comes next."""
    found = {name: kind for name, kind in entries(folder).items() if name != SEAL}
    files = {name: sync_and_hash(folder / name) for name, kind in found.items() if kind == FILE and name not in listed}
    _write(folder, {"files": {**files, MANIFEST: facts_of(content)}, "others": _others(folder, found)})


def of_run(folder: Path, stages: Mapping[str, tuple[Path, Mapping[str, Any]]]) -> None:
    """Seal a run that has ended; `stages` are the folders of those that are complete, and the manifests it read."""
    found = {name: kind for name, kind in entries(folder).items() if name not in (SEAL, LOCK)}
    values = {
        "sealed": datetime.now().astimezone().isoformat(timespec="seconds"),
        "files": {
            name: sync_and_hash(folder / name)
            for name, kind in found.items()
            if kind == FILE and not ASIDE.fullmatch(name)
        },
        "others": _others(folder, found),
        "stages": {
            stage: {"fingerprint": place.name, "files": _known(place, manifest)}
            for stage, (place, manifest) in stages.items()
        },
    }
    _write(folder, values)


def rewrite(folder: Path, files: Mapping[str, bytes], held: bool = False, from_itself: bool = False) -> None:
    """Write files of a run folder anew, and renew its seal where it has one.

    `held`: this process holds the run's lock. `from_itself`: the files are made from what they said before, so that one
    that was damaged stays one. Raises `MachineError` where the disk is full, another command holds the run or a newer
    version sealed it.
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
    """The seal of a run or a stage; None where there is none. Raises `OSError` where it cannot be read, `ValueError`
    where it is not as it was written, and of these `NewerSeal` where only a newer version can read it."""
    try:
        content = content_of(folder / SEAL)
    except FileNotFoundError:
        return None
    try:
        values = json.loads(content)
        if not isinstance(values, dict) or values.pop("digest", None) is None or _text(values) != content:
            raise ValueError("its text does not have the digest that it names")
    except RecursionError:
        raise ValueError("it is no seal") from None
    if isinstance(values.get("version"), int) and values["version"] > VERSION:
        raise NewerSeal("written by a newer sft-runner")
    if not _is_sound(values):
        raise ValueError("it does not say what a seal says")
    return values


def entries(folder: Path) -> dict[str, str]:
    """Everything below a folder with its kind, named from there and sorted; of folders only empty ones. No link is
    followed."""
    found: dict[str, str] = {}
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place) / name
            with suppress(OSError):  # gone meanwhile, or a folder that nobody may read
                mode = path.lstat().st_mode
                if not stat.S_ISDIR(mode):
                    kind = FILE if stat.S_ISREG(mode) else LINK if stat.S_ISLNK(mode) else OTHER
                elif any(path.iterdir()):
                    continue
                else:
                    kind = FOLDER
                found[path.relative_to(folder).as_posix()] = kind
    return dict(sorted(found.items()))


def described(path: Path, kind: str) -> str:
    """What an entry is, as a seal says it of those that are no files: where a link leads is part of it."""
    return f"link to {os.readlink(path)}" if kind == LINK else kind


def facts_of(content: bytes) -> Facts:
    """Size and hash of bytes."""
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def is_facts(found: Any) -> bool:
    """Whether this is the size and the hash of a file."""
    return isinstance(found, dict) and isinstance(found.get("size"), int) and isinstance(found.get("sha256"), str)


def are_files(found: Any) -> bool:
    """Whether this says the size and the hash of files below a folder."""
    return isinstance(found, dict) and all(is_name(name) and is_facts(facts) for name, facts in found.items())


def is_name(name: Any) -> bool:
    """Whether this may be the name of a file below a folder."""
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    return not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts


def content_of(path: Path) -> bytes:
    """The bytes of a file. Raises `OSError`, also for a pipe, which would be waited for."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no file", str(path))
    with open(handle, "rb") as file:
        return file.read()


def _known(place: Path, manifest: Mapping[str, Any]) -> dict[str, Facts]:
    """What a run knows of a stage: the manifest that it read, and what the stage's own seal says. Where another command
    has made the stage anew since, that seal is of something else."""
    read_by_run = {MANIFEST: facts_of(json_bytes(manifest))}
    try:
        content = content_of(place / MANIFEST)
        if json_bytes(json.loads(content)) != json_bytes(manifest):
            return read_by_run
        own = read(place)
        if content_of(place / MANIFEST) != content:
            return read_by_run
        if own is None:
            return {MANIFEST: facts_of(content)}
        files: dict[str, Facts] = {**own["files"], SEAL: facts_of(_text(own))}
        log = _whole(place / STAGE_LOG, files.pop(STAGE_LOG)) if STAGE_LOG in files else None
        return {**files, STAGE_LOG: log} if log else files
    except (OSError, ValueError, RecursionError):
        return read_by_run


def _whole(log: Path, start: Facts) -> Facts | None:
    """The facts of a log that begins as its stage's seal says."""
    digest, left = hashlib.sha256(), int(start["size"])
    with open(log, "rb") as file:
        os.fsync(file.fileno())
        while left and (chunk := file.read(min(left, 1 << 20))):
            digest.update(chunk)
            left -= len(chunk)
        if left or digest.hexdigest() != start["sha256"]:
            return None
        while chunk := file.read(1 << 20):
            digest.update(chunk)
        return {"size": file.tell(), "sha256": digest.hexdigest()}


def _others(folder: Path, found: Mapping[str, str]) -> dict[str, str]:
    """Links and empty folders."""
    return {name: described(folder / name, kind) for name, kind in found.items() if kind in (LINK, FOLDER)}


def _is_sound(values: Mapping[str, Any]) -> bool:
    """Whether a seal has the shape that this version writes."""
    others, stages = values.get("others", {}), values.get("stages", {})
    return (
        are_files(values.get("files"))
        and are_files(values.get("next", {}))
        and isinstance(others, dict)
        and all(is_name(name) and isinstance(what, str) for name, what in others.items())
        and isinstance(stages, dict)
        and all(
            isinstance(entry, dict) and isinstance(entry.get("fingerprint"), str) and are_files(entry.get("files"))
            for entry in stages.values()
        )
    )


def _renew(folder: Path, files: Mapping[str, bytes], from_itself: bool) -> None:
    """The seal first names both what is there and what comes, then only what came."""
    try:
        values = read(folder)
    except NewerSeal as error:
        if from_itself:
            return
        raise MachineError(f"{folder / SEAL}: {error}", "install that version, and run the command again") from None
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
        return facts_of(content_of(path)) in known
    except OSError:
        return False


def _put(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        write_bytes(folder / name, content)


def _write(folder: Path, values: Mapping[str, Any]) -> None:
    write_bytes(folder / SEAL, _text(values))


def _text(values: Mapping[str, Any]) -> bytes:
    """The seal's text: plain ASCII, since names of files may be no Unicode."""
    body = {"version": VERSION, **values}
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return (json.dumps({**body, "digest": digest}, indent=1) + "\n").encode()
