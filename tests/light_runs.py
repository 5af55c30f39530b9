"""Finished runs in a moment: the real plan, worker, run folder and ending, around stages that write a few bytes."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from run_folders import METRICS, PREDICTIONS
from sft_runner import load, planning, runner, worker
from sft_runner.config.schema import Config
from sft_runner.disk import write_json
from sft_runner.ending import ended
from sft_runner.errors import StageFailed
from sft_runner.outcome import Outcome
from sft_runner.review.verify import Verified
from sft_runner.review.verify.finding import DAMAGE
from sft_runner.runs import RunFolder
from sft_runner.stages.stage import Report, Result
from sft_runner.store import Store
from sft_runner.tracking.tracker import MemoryTracker

MADE = {
    "prepare": ("train.arrow", "held_out.arrow", "report.json"),
    "baseline": ("scores.json",),
    "train": ("adapter/adapter_config.json", "adapter/adapter_model.safetensors", "training.json"),
    "merge": ("model/config.json", "model/model.safetensors"),
    "evaluate": ("scores.json", "predictions.jsonl"),
    "export": ("export.json", "adapter/README.md"),
    "serve": ("check.json", "server.log"),
}
"""Stage -> what the light one writes."""


class Light:
    """A stage that is planned as the real one, and writes a few bytes."""

    def __init__(self, real: Any) -> None:
        self.name, self.version, self.reads, self.inputs = real.name, real.version, real.reads, real.inputs
        self.model, self.data, self.gpu, self.keeps = real.model, real.data, real.gpu, real.keeps

    def execute(self, config: Config, inputs: Mapping[str, Path], folder: Path, report: Report) -> Result:
        for name in MADE[self.name]:
            (folder / name).parent.mkdir(exist_ok=True)
            if name == "check.json":
                question = [{"role": "user", "content": "Write day 1."}]
                write_json(folder / name, {"question": question, "answer": "2021-03-01", "expected": "?"})
            elif name.endswith(".json"):
                write_json(folder / name, {"made": self.name, "größe": [1, 2, 3]})
            elif name == "predictions.jsonl":
                (folder / name).write_text("".join(f"{json.dumps(row)}\n" for row in PREDICTIONS))
            else:
                (folder / name).write_bytes(os.urandom(300))  # made anew, it is never the same
        report(step=1, steps=1, message="done")
        os.write(1, f"{self.name} says something\n".encode())
        return Result(METRICS[self.name] | ({"packing": {"rows": 90}} if self.name == "prepare" else {}))


@contextmanager
def light_stages() -> Iterator[None]:
    """All stages are light ones."""
    with pytest.MonkeyPatch.context() as patch:
        for name, real in list(worker.STAGES.items()):
            patch.setitem(worker.STAGES, name, Light(real))
        yield


def run(project: Path, *words: str, end: bool = True, fails: str = "") -> Path:
    """A run in `project/outputs`; returns its folder. Without `end` it is as a kill just before its end leaves it;
    `fails` is a stage at which it fails."""
    with pytest.MonkeyPatch.context() as patch, light_stages():
        patch.chdir(project)
        plan = planning.plan(load("recipe=quickstart", "hardware=cpu", "tracking=none", *words))
        folder = RunFolder(plan)
        outcome = Outcome("completed", folder.path)
        if not end:
            _work(plan, outcome, folder)
            folder.close()
            return folder.path
        with ended(plan, outcome, folder, MemoryTracker()):
            _work(plan, outcome, folder, fails)
        assert outcome.state == ("failed" if fails else "completed"), outcome.error
        return folder.path


def of(project: Path, outputs: str = "outputs") -> Path:
    """The folder of the oldest run."""
    return min((project / outputs / "runs").glob("*/*/"), key=lambda path: path.stat().st_ctime_ns)


def stage(project: Path, name: str) -> Path:
    """The folder of the only stage of that name."""
    (folder,) = (path for path in (project / "outputs" / "stages" / name).iterdir() if path.is_dir())
    return folder


def files(project: Path) -> Iterator[Path]:
    """Every file of the run and its stages, but the locks, which hold nothing."""
    for folder in (of(project), *sorted((project / "outputs" / "stages").glob("*/*/"))):
        for place, _, names in os.walk(folder):
            yield from (Path(place) / name for name in sorted(names) if not name.endswith(".lock"))


def damaged(found: Verified) -> set[str]:
    """The places of all damage."""
    return {finding.place for finding in found.of(DAMAGE)}


def _work(plan: planning.Plan, outcome: Outcome, folder: RunFolder, fails: str = "") -> None:
    store = Store(plan.output_dir)
    for step in plan.steps:
        if step.stage == fails:
            raise StageFailed(f"{fails}: something went wrong")
        if step.action != "cached":
            request = {"values": runner._request(plan, step), "force": step.forced}
            with _screen_kept():
                done = worker.work(store.partial(step.stage, step.fingerprint), lambda message: None, request)
            assert done == {"state": "completed"}, done
        manifest = store.find(step.stage, step.fingerprint)
        assert manifest
        outcome.manifests[step.stage] = manifest
        runner._link(plan, step, folder)


@contextmanager
def _screen_kept() -> Iterator[None]:
    """A worker sends what is printed to the stage's log, for good; here it is brought back."""
    kept = [os.dup(handle) for handle in (1, 2)]
    try:
        yield
    finally:
        for handle, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, handle)
            os.close(copy)
