"""A supervisor that leaves nothing behind: `python -m sft_runner.serving.guard -- PROGRAM ARGUMENT...`

It runs the program in a session of its own until the program ends, SIGTERM comes, or its own stdin closes. The owner
holds the other end of that pipe, so it closes however the owner dies. Then every descendant is ended, also those that
made a session of their own or lost their parent. The exit code is the program's, 128 + N if signal N ended it.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil

GRACE_SECONDS = 10.0
"""How long the family may take to end after SIGTERM, before SIGKILL."""
POLL_SECONDS = 0.1
PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> int:
    """Run the program after `--`; returns its exit code once no descendant is left."""
    if arguments[:1] != ["--"] or len(arguments) < 2:
        print("usage: python -m sft_runner.serving.guard -- PROGRAM ARGUMENT...", file=sys.stderr)
        return 2
    received: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, frame: received.append(number))
    _prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans become children of this process, where they are found
    try:
        child = subprocess.Popen(
            arguments[1:],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # should this process itself be killed
        )
    except OSError as error:
        print(f"{arguments[1]}: {error.strerror}", file=sys.stderr)
        return 127
    while child.returncode is None and not received and not _closed(0):
        _reap(child)
    _end_family(child)
    code = int(child.returncode)
    return code if code >= 0 else 128 - code


def _closed(handle: int) -> bool:
    """Whether the other end of a pipe is gone; waits a moment."""
    readable, _, _ = select.select([handle], [], [], POLL_SECONDS)
    return bool(readable) and not os.read(handle, 4096)


def _reap(child: "subprocess.Popen[bytes]") -> None:
    """Take the exit codes of all children that have ended, adopted ones too."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            if pid == child.pid:
                child.returncode = os.waitstatus_to_exitcode(status)


def _end_family(child: "subprocess.Popen[bytes]") -> None:
    """SIGTERM to each descendant once, SIGKILL after the grace period, until there is none."""
    asked: set[psutil.Process] = set()
    deadline = time.monotonic() + GRACE_SECONDS
    _reap(child)
    while family := psutil.Process().children(recursive=True):
        late = time.monotonic() > deadline
        for process in family:
            with suppress(psutil.NoSuchProcess):
                if late:
                    process.kill()
                elif process not in asked:
                    process.terminate()
            asked.add(process)
        time.sleep(POLL_SECONDS)
        _reap(child)


def _end_with_parent() -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    """Elsewhere than on Linux the descendants are found only while their parents live."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
