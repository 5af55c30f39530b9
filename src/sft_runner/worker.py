"""A process that runs stages. The worker, not the runner, holds a stage's lock and writes its folder.

    python -m sft_runner.worker FOLDER       run the stage whose `stage.json` lies in FOLDER
    python -m sft_runner.worker --warm M,..  import modules M, then fork a child for each folder named on stdin

Heavy imports are so paid once per command, while every stage has a process of its own. A child ends at once when the
pipe to the runner closes, so that a killed runner never leaves a writer behind.
"""

import gc
import importlib
import json
import os
import select
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from platform import node, python_version
from typing import Any

from sft_runner.config.schema import Config, build
from sft_runner.cost.duration import made_with
from sft_runner.disk import explained, read_json, write_json
from sft_runner.errors import SftError, StageFailed
from sft_runner.events import EventWriter
from sft_runner.stages import STAGES
from sft_runner.stages.stage import Result
from sft_runner.store import EVENTS, LOG, MANIFEST, REQUEST, RESULT, Store, claim, clear, commit, promote

RECORDED = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "tokenizers",
    "accelerate",
    "bitsandbytes",
    "safetensors",
    "lm_eval",
    "sacrebleu",
    "gguf",
)
"""Libraries whose versions are written into each manifest."""
Tell = Callable[[dict[str, Any]], None]


def main(arguments: list[str]) -> int:
    """Run one folder, or serve the runner."""
    if arguments[:1] == ["--warm"]:
        return serve(arguments[1].split(","))
    if len(arguments) != 1 or not (Path(arguments[0]) / REQUEST).is_file():
        print("usage: python -m sft_runner.worker FOLDER   (a stage folder with its stage.json)", file=sys.stderr)
        return 2
    outcome = work(Path(arguments[0]).resolve(), lambda message: print(json.dumps(message), flush=True))
    return int(outcome.get("exit_code", 0))


def serve(modules: list[str]) -> int:
    """Import `modules`, then fork a child for every request on stdin until it closes."""
    control = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print while they are imported must not reach the runner

    def tell(message: dict[str, Any]) -> None:
        control.write(json.dumps(message) + "\n")

    for module in modules:
        try:
            importlib.import_module(module)
        except Exception:  # the stage that needs it fails with the reason in its own log
            traceback.print_exc()
    gc.freeze()  # else each collection in a stage looks through a million objects of libraries, some 0.4 s
    for line in _lines(0):
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _end_with(0)
            outcome = work(Path(request["folder"]), tell, request)
            tell(outcome)
            with suppress(OSError):
                sys.stdout.flush()
            os._exit(int(outcome.get("exit_code", 0)))  # no interpreter shutdown: threads of libraries may hang in it
        _, status = os.waitpid(child, 0)
        tell({"state": "ended", "code": os.waitstatus_to_exitcode(status)})
    return 0


def work(folder: Path, tell: Tell, request: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run the stage of a partial folder, alone; returns what `result.json` says.

    `request` may hold `values` (in place of `stage.json`), `force` (run although the output is there) and
    `mlflow_run_id`.
    """
    request = request or {}
    values = request.get("values") or read_json(folder / REQUEST)
    with explained(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
    stage, store = STAGES[values["stage"]], Store(folder.parents[2])
    try:
        with claim(folder, wait=0):
            return _alone(folder, values, request, store, tell)
    except TimeoutError:
        tell({"state": "waiting", "stage": stage.name})
    with claim(folder):
        return _alone(folder, values, request, store, tell)


def _alone(folder: Path, values: dict[str, Any], request: dict[str, Any], store: Store, tell: Tell) -> dict[str, Any]:
    """The work itself, under the lock."""
    stage, fingerprint = STAGES[values["stage"]], str(values["fingerprint"])
    if not request.get("force"):
        promote(folder)  # an earlier worker died after the manifest and before the rename
        if store.find(stage.name, fingerprint):
            shutil.rmtree(folder, ignore_errors=True)
            return {"state": "reused"}
    try:
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            clear(folder, stage.keeps)
            write_json(folder / REQUEST, values)
            _redirect(folder / LOG)
            events = EventWriter(folder / EVENTS)
        tell({"state": "running", "stage": stage.name})
        events(state="running", pid=os.getpid(), host=node())
        started, began = datetime.now(UTC), time.perf_counter()
        try:
            with explained(folder):
                result = stage.execute(build(Config, values["config"]), _inputs(values, store), folder, events)
        except BaseException:
            with suppress(OSError):  # on a full disk it is the first error that counts
                events(state="failed")
            raise
        _same_data(values, result)
        for note in result.notes:
            events(message=note)
        events(state="completed")
        events.close()
        write_json(folder / RESULT, {"state": "completed", "metrics": result.metrics})
        manifest = {
            **values["ingredients"],
            "fingerprint": fingerprint,
            "metrics": result.metrics,
            "datasets": [vars(dataset) for dataset in result.datasets],
            "notes": result.notes,
            "artifacts": result.artifacts,
            "seconds": round(time.perf_counter() - began, 3),
            "created": started.isoformat(timespec="seconds"),
            "versions": _versions(),
            "host": node(),
            "made_with": made_with(build(Config, values["config"])),
            "mlflow_run_id": request.get("mlflow_run_id"),
        }
        sys.stdout.flush()  # into the log, which is sealed as far as it is written
        commit(folder, manifest)
        return {"state": "completed"}
    except Exception as error:
        _log_traceback()
        failure = _failure(error, folder)
    outcome = {
        "state": "failed",
        "kind": type(failure).__name__,
        "message": failure.message,
        "hint": failure.hint,
        "exit_code": failure.exit_code,
    }
    if folder.is_dir() and read_json(folder / REQUEST) and not (folder / MANIFEST).exists():
        _try_write(folder / RESULT, outcome)
    return outcome


def _failure(error: Exception, folder: Path) -> SftError:
    """An error in the user's words."""
    try:
        with explained(folder):
            raise error
    except SftError as known:
        return known
    except Exception:
        return StageFailed(f"{type(error).__name__}: {error}".strip(), "the log has the whole story")


def _inputs(values: dict[str, Any], store: Store) -> dict[str, Path]:
    return {name: store.folder(name, fingerprint) for name, fingerprint in values["inputs"].items()}


def _same_data(values: dict[str, Any], result: Result) -> None:
    """What was read must be what the plan saw, or the output would be found again under the wrong name."""
    planned = str(values["ingredients"].get("data") or "")
    if planned and any(planned[: len(dataset.digest)] != dataset.digest for dataset in result.datasets):
        raise StageFailed("the data changed while it was read", "let it rest, then run the same command again")


def _versions() -> dict[str, str]:
    found = {"python": python_version()}
    for name in ("sft_runner", *RECORDED):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _redirect(log: Path) -> None:
    """Send everything that is printed from here on, by libraries in C too, to the stage's log."""
    sys.stdout.flush()
    sys.stderr.flush()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


def _lines(handle: int) -> Any:
    """Lines from a pipe, unbuffered, so that a forked child inherits no half-read input."""
    pending = b""
    while chunk := os.read(handle, 65536):
        *lines, pending = (pending + chunk).split(b"\n")
        yield from lines


def _end_with(handle: int) -> None:
    """Kill this process and its group as soon as the other end of a pipe is gone."""

    def watch() -> None:
        poll = select.poll()
        poll.register(handle, 0)  # hang-up is always reported
        poll.poll()
        os.killpg(os.getpgid(0), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _try_write(path: Path, values: dict[str, Any]) -> None:
    """On a full disk the reason still reaches the runner through the pipe."""
    try:
        write_json(path, values)
    except (SftError, OSError):
        _log_traceback()


def _log_traceback() -> None:
    """Into the stage's log, which may lie on the disk that is full."""
    with suppress(OSError):
        traceback.print_exc()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
