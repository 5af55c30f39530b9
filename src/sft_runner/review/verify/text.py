"""What verifying found, for the terminal: damage first and exactly, then a line for each part."""

import sys
import time

from sft_runner.config.sources import shown
from sft_runner.review.verify import Verified
from sft_runner.review.verify.finding import CHANGED, DAMAGE, NOTE, UNCHECKED

SECONDS = 0.2
"""Between two looks of the line that shows progress."""


def text(found: Verified) -> str:
    """The whole account."""
    lines = [f"{found.label} · {found.state} · {shown(found.folder)}"]
    for kind in (DAMAGE, CHANGED, UNCHECKED, NOTE):
        lines += (line for finding in found.of(kind) for line in finding.lines())
    width = max(len(part.name) for part in found.parts)
    for part in found.parts:
        amount = f"{part.files:>5,} files  {size(part.bytes):>9}  {part.seconds:>7.2f} s"
        lines.append(f"  {part.name:<{width}}  {amount}  {part.state}")
    return "\n".join([*lines, verdict(found)])


def verdict(found: Verified) -> str:
    """The last line."""
    files, count = sum(part.files for part in found.parts), sum(part.bytes for part in found.parts)
    amount = f"{files:,} files, {size(count)}, {found.seconds:.1f} s"
    if damaged := found.of(DAMAGE):
        places = len({finding.place for finding in damaged})
        return f"DAMAGED: {places:,} {'place' if places == 1 else 'places'}; {amount}"
    parts = ["nothing is damaged" if found.of(UNCHECKED) else "whole"]
    if changed := found.of(CHANGED):
        parts.append(f"{' and '.join(dict.fromkeys(finding.place for finding in changed))} changed since")
    if unchecked := len(found.of(UNCHECKED)):
        parts.append(f"{unchecked:,} {'thing' if unchecked == 1 else 'things'} could not be checked")
    return f"{', '.join(parts)}: {amount}"


def size(count: int) -> str:
    """Bytes as people say them: in powers of ten, as disks are sold."""
    for unit, least in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= least:
            return f"{count / least:.1f} {unit}"
    return f"{count} B"


class Meter:
    """A line on a terminal that says what is hashed and how fast; nothing where there is none."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self.began = self.shown = time.perf_counter()
        self.count = 0

    def __call__(self, name: str, count: int) -> None:
        self.count += count
        now = time.perf_counter()
        if self.live and now - self.shown > SECONDS:
            self.shown = now
            speed = size(int(self.count / (now - self.began)))
            print(f"\r\033[K{name}: {size(self.count)}, {speed}/s", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the line away."""
        if self.live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
