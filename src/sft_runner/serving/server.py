"""A server process: started under guard, ready when it has really answered, and gone when it is left."""

import re
import shutil
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

from sft_runner.config.schema import Config
from sft_runner.errors import StageFailed, UserError
from sft_runner.launcher import ended
from sft_runner.serving import guard, transformers, vllm
from sft_runner.serving.address import Address, choose
from sft_runner.serving.completion import Completion, Messages, Refused, ask
from sft_runner.serving.engine import Engine, interpreter, require

ENGINES = {"transformers": transformers.engine, "vllm": vllm.engine}
"""`serve.engine` -> how it is started."""
PACKAGES = {package.name: package for package in (transformers.PACKAGE, vllm.PACKAGE)}
HELLO = [{"role": "user", "content": "Hello"}]
"""The first question, answered with one token: it proves that weights, template and sampling work together."""
POLL_SECONDS = 0.25
ANSWER_SECONDS = 600.0
"""How long one answer may take."""
SHOWN_LINES = 12
"""Last lines of the log that an error shows."""


def check(config: Config) -> None:
    """Raise `MachineError` for a missing engine or a busy port, before hours of training rather than after."""
    require(PACKAGES[config.serve.engine], interpreter(config))
    if config.stage.stay:
        choose(config.serve.host, config.serve.port)


def server(config: Config, model: Path, name: str, place: Address, log: Path) -> "Server":
    """The server that a configuration asks for, not started yet. Raises `UserError` or `MachineError`."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name):
        raise UserError(f"name={name} cannot name a served model", "use letters, digits, '-' and '_'")
    engine = ENGINES[config.serve.engine](config, model, name, place)
    return Server(engine, place, log, config.serve.startup_timeout)


class Server:
    """A context: inside it the server answers, after it no process of it is left."""

    def __init__(
        self, engine: Engine, place: Address, log: Path, startup_timeout: float, hello: Messages = HELLO
    ) -> None:
        self.engine = engine
        self.address = place
        self.log = log
        self.folder = log.with_suffix(".running")
        """Where the engine is started; holds the link that carries the served name."""
        self.startup_timeout = startup_timeout
        self.hello = hello
        """The first question; a model without a chat template is asked another one."""
        self.version = ""
        """Version of the engine, once it was found."""
        self.seconds_to_ready = 0.0
        """From start to first answer."""

    def __enter__(self) -> "Server":
        """Start and wait for the first answer. Raises `MachineError` or `StageFailed`, and then nothing runs."""
        self.version = require(self.engine.package, self.engine.python)
        began = time.monotonic()
        self._start()
        try:
            self._wait_until_ready(began + self.startup_timeout)
        except BaseException:
            self._stop()
            raise
        self.seconds_to_ready = round(time.monotonic() - began, 2)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def ask(self, messages: Messages, max_tokens: int, name: str = "", timeout: float = ANSWER_SECONDS) -> Completion:
        """A greedy answer by the served model, or by the one that it also serves as `name`. Raises `StageFailed` where
        there is none."""
        try:
            return ask(self.address, name or self.engine.served_name, messages, max_tokens, timeout)
        except (OSError, Refused) as error:
            raise self._failure(f"{self.engine.name} gave no answer: {error}") from None

    def wait(self) -> None:
        """Block until the server dies, which raises `StageFailed`."""
        code = self.process.wait()
        raise self._failure(f"{self.engine.name} has ended ({ended(code)})")

    def _start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)  # of an owner that was killed
        self.folder.mkdir()
        (self.folder / self.engine.served_name).symlink_to(self.engine.model.absolute())
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                # by its path and without the user's environment in the way, whatever the current folder
                [sys.executable, guard.__file__, "--", self.engine.python, *self.engine.arguments],
                cwd=self.folder,
                env=self.engine.variables(),
                stdin=subprocess.PIPE,  # closes when this process dies, and the guard then ends the engine
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the owner, which decides
            )

    def _wait_until_ready(self, deadline: float) -> None:
        """Only a reply counts: a server that merely listens, or says that it is healthy, may not answer yet."""
        while (left := deadline - time.monotonic()) > 0:
            code = self.process.poll()
            if code is not None:
                raise self._failure(f"{self.engine.name} ended before its first answer ({ended(code)})")
            if self._listens():
                try:
                    ask(self.address, self.engine.served_name, self.hello, 1, timeout=max(left, 1.0))
                    return
                except Refused as error:
                    raise self._failure(f"{self.engine.name} gave no answer: {error}") from None
                except OSError:
                    pass  # it listens, but does not answer yet
            time.sleep(POLL_SECONDS)
        raise self._failure(
            f"serve.startup_timeout: {self.engine.name} gave no answer within {self.startup_timeout:g} s"
        )

    def _listens(self) -> bool:
        """Whether the engine has the port: a stranger may have taken it meanwhile, and would answer too."""
        with suppress(psutil.Error):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.Error):
                    for connection in process.net_connections("tcp"):
                        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == self.address.port:
                            return True
        return False

    def _stop(self) -> None:
        """Let go of the guard and wait until it has ended everything."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(guard.GRACE_SECONDS + 20)
        except subprocess.TimeoutExpired:
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _failure(self, message: str) -> StageFailed:
        with open(self.log, encoding="utf-8", errors="replace") as log:
            last = deque((line.rstrip()[:300] for line in log if line.strip()), SHOWN_LINES)
        shown = "".join(f"\n    {line}" for line in last)
        return StageFailed(message, f"server's log: {self.log}{', which ends with' if last else ''}{shown}")
