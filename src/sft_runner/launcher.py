"""The runner's side of a worker: start it ahead, hand it a folder, hear from it, stop it."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sft_runner.errors import StageFailed
from sft_runner.hardware import PCI_ORDER

ENVIRONMENT = {
    "CUDA_DEVICE_ORDER": PCI_ORDER,  # CUDA's own order is by speed; NVML's, by which the preset was chosen, is this
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads make a training many times slower where a core is busy otherwise
    "PYTHONSAFEPATH": "1",  # a `datasets.py` in the user's folder must not stand in for the library
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # asking for cards must not start CUDA before the fork
    "TOKENIZERS_PARALLELISM": "true",
}
"""What a worker gets unless the user's own environment says otherwise."""
GRACE_SECONDS = 10.0
"""How long a stage may take to end after it was asked to."""


class Worker:
    """A worker process that is importing while the runner does other things."""

    def __init__(self, modules: list[str], log: Path) -> None:
        with open(log, "ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sft_runner.worker", "--warm", ",".join(modules)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C reaches the runner, which decides
                env={**ENVIRONMENT, **os.environ},
            )
        self.log = log
        self.pending = b""

    def send(self, folder: Path, **request: Any) -> None:
        """Ask for the stage of a folder."""
        assert self.process.stdin is not None
        line = json.dumps({"folder": str(folder), **request}) + "\n"
        try:
            self.process.stdin.write(line.encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise StageFailed("the worker did not start", f"see {self.log}") from None

    def messages(self, interval: float = 0.1) -> Iterator[dict[str, Any] | None]:
        """What the worker says until the stage ended; None every `interval` seconds in between.

        Raises `StageFailed` if the worker itself is gone.
        """
        assert self.process.stdout is not None
        handle = self.process.stdout.fileno()
        while True:
            ready, _, _ = select.select([handle], [], [], interval)
            if not ready:
                yield None
                continue
            chunk = os.read(handle, 65536)
            if not chunk:
                code = self.process.wait()
                raise StageFailed(f"the worker ended unexpectedly ({ended(code)})", f"see {self.log}")
            *lines, self.pending = (self.pending + chunk).split(b"\n")
            for line in lines:
                message = json.loads(line)
                yield message
                if message["state"] == "ended":
                    return

    def stop(self) -> None:
        """End the worker and whatever it runs. Nothing is lost: a stage's folder is valid at any moment."""
        _signal(self.process.pid, signal.SIGTERM)
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()
        try:
            self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            _signal(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Workers:
    """The one worker of a command, started when it is first needed and shared by the jobs of a sweep."""

    def __init__(self) -> None:
        self.worker: Worker | None = None

    def start(self, modules: list[str], log: Path) -> Worker:
        """The worker; a new one where there is none or where it ended."""
        if self.worker is None or self.worker.process.poll() is not None:
            self.worker = Worker(modules, log)
        return self.worker

    def close(self) -> None:
        """End it."""
        if self.worker:
            self.worker.stop()
            self.worker = None


def ended(code: int) -> str:
    """An exit code in words."""
    if code == -signal.SIGKILL:
        return "killed, perhaps because memory ran out"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _signal(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return
