"""A file held against what was written of it."""

import errno
from pathlib import Path

from sft_runner.config.sources import shown
from sft_runner.review.verify.finding import DAMAGE, UNCHECKED, Part
from sft_runner.review.verify.hashing import Hasher
from sft_runner.seal import LINK, OTHER, Facts


def hold(part: Part, path: Path, wanted: Facts, found: Facts | OSError, remedy: str = "") -> None:
    """Note a file that is not there, cannot be read, or has other bytes than were written."""
    if isinstance(found, OSError):
        what = "is not there" if isinstance(found, FileNotFoundError) else f"cannot be read: {found.strerror}"
        part.add(DAMAGE, shown(path), what, told(wanted), remedy=remedy)
    elif (found["size"], found["sha256"]) != (wanted.get("size"), wanted.get("sha256")):
        part.add(DAMAGE, shown(path), _difference(wanted, found), told(wanted), told(found), remedy)


def hold_start(part: Part, path: Path, wanted: Facts, hasher: Hasher, remedy: str = "") -> None:
    """The same of a log as far as it was written when its stage was sealed; nobody vouches for what is behind that."""
    try:
        found: Facts | OSError = hasher.facts(path, wanted["size"])
        behind = path.stat().st_size - wanted["size"]
    except OSError as error:
        found, behind = error, 0
    hold(part, path, wanted, found, remedy)
    if behind > 0:
        part.add(UNCHECKED, shown(path), f"its last {behind:,} bytes were written after its seal")


def told(facts: Facts | None) -> str:
    """Size and hash in a line."""
    return f"{facts.get('size')} bytes, sha256 {facts.get('sha256')}" if facts else ""


def missing(path: Path) -> OSError:
    """What opening a file that is not there raises."""
    return FileNotFoundError(2, "No such file or directory", str(path))


def unlike(path: Path, kind: str | None) -> OSError:
    """Why an entry of that kind has no bytes of its own; without a kind it is not there."""
    return missing(path) if kind is None else OSError(errno.EINVAL, f"it is {'a link' if kind == LINK else OTHER}")


def _difference(wanted: Facts, found: Facts) -> str:
    longer = found["size"] - int(wanted.get("size") or 0)
    if longer:
        return f"{abs(longer):,} bytes too {'many' if longer > 0 else 'few'}"
    return "other bytes than were written"
