"""Commands in processes of their own that need not start an interpreter: they are forked from one that waits.

    python tests/forked.py     for each line on stdin, a request, fork a child that is `python -m sft_runner WORDS`

What a child has of its own is what a command has that was started: process, folder, environment, screen, exit code, and
the end of the interpreter with all that is registered for it. Only Python and the modules of the command line are
loaded already, which takes most of the time of a command that ends with a plan or a mistake.
"""

import atexit
import functools
import gc
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class Server:
    """The process that waits; it ends with this one."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        atexit.register(self.close)

    def run(self, words: list[str], cwd: Path, out: Path, err: Path, timeout: float) -> int:
        """The exit code of a command whose screen goes to `out` and `err`; below zero it is a signal's number."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        request = {"words": words, "cwd": str(cwd), "out": str(out), "err": str(err), "environment": dict(os.environ)}
        self.process.stdin.write(json.dumps(request) + "\n")
        pid = int(self.process.stdout.readline())
        if not select.select([self.process.stdout], [], [], timeout)[0]:
            os.kill(pid, signal.SIGKILL)
            self.process.stdout.readline()
            raise subprocess.TimeoutExpired(words, timeout)
        return int(self.process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self.process.communicate()


@functools.cache
def server() -> Server:
    """The one of this process."""
    return Server()


def serve() -> None:
    """Fork a child for each request until stdin closes."""
    import sft_runner.cli  # noqa: F401  what all commands need

    gc.freeze()
    pending = b""
    while chunk := os.read(0, 65536):
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            child = os.fork()
            if child == 0:
                _become(json.loads(line))
                return
            os.write(1, f"{child}\n".encode())
            _, status = os.waitpid(child, 0)
            os.write(1, f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _become(request: dict[str, Any]) -> None:
    """Be the command. Both pipes of the server are closed by what takes their places."""
    for handle, place, how in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["out"], os.O_WRONLY | os.O_CREAT),
        (2, request["err"], os.O_WRONLY | os.O_CREAT),
    ):
        opened = os.open(place, how, 0o600)
        os.dup2(opened, handle)
        os.close(opened)
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    os.chdir(request["cwd"])
    if not sys.flags.safe_path:
        sys.path[0] = request["cwd"]  # as `python -m` has it
    sys.argv = ["sft_runner", *request["words"]]
    runpy.run_module("sft_runner", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve()
