"""Walks a plan: hands each stage to the worker, passes its events on, and writes down how the run ended."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sft_runner import errors, launcher, report
from sft_runner.config.schema import flatten
from sft_runner.disk import explained, read_json
from sft_runner.ending import ended, fit
from sft_runner.errors import GateFailed, MachineError, SftError, StageFailed
from sft_runner.evaluation import gates
from sft_runner.evaluation.verdict import Verdict
from sft_runner.events import EventReader
from sft_runner.launcher import Workers
from sft_runner.outcome import Outcome, headline, model_of
from sft_runner.planning import Plan, Step
from sft_runner.progress import Progress
from sft_runner.readiness import check_card, check_export, check_scoring, with_data, with_model
from sft_runner.runs import RunFolder, adapter_of, earlier, interrupted, orphans
from sft_runner.serving import server
from sft_runner.store import EVENTS, LOG, Store
from sft_runner.tracking import make
from sft_runner.tracking.requirements import enabled
from sft_runner.tracking.tracker import RunInfo, Tracker

TRACKING = ("tracking.", "~tracking")
"""How overrides begin that say who is told: that is the business of nobody who is."""
PRELOADED = ["torch", "transformers", "datasets", "peft"]
"""Imported by the worker while the run begins; the trainer only where a plan trains."""


def execute(
    plan: Plan, workers: Workers | None = None, tracker: Tracker | None = None, sweep: str | None = None
) -> Outcome:
    """Run what the plan says. A failed stage is in the outcome; Ctrl-C and SIGTERM pass through."""
    known = _known(plan)
    if known and known.error:
        return known
    if any(step.stage == "serve" for step in plan.steps) and (plan.run.config.stage.stay or not plan.cached):
        server.check(plan.run.config)
    if known:
        return known
    check_card(plan)
    check_scoring(plan)
    check_export(plan)
    tracker = tracker or make(plan.run.config, plan.output_dir)  # says what is missing before anything begins
    plan = with_model(with_data(plan))
    own = Workers() if workers is None else None
    try:
        return _execute(plan, workers or own or Workers(), tracker, sweep)
    finally:
        if own:
            own.close()


def record(plan: Plan, sweep: str) -> None:
    """Tell the tracker of a cached job, so that a sweep that did work shows all its jobs."""
    found = {step.stage: step.manifest for step in plan.steps if step.manifest}
    tracker = make(plan.run.config, plan.output_dir)  # says what is missing before there is a folder
    folder = RunFolder(plan, sweep)
    outcome = Outcome("completed", folder.path, dict(found))
    with ended(plan, outcome, folder, tracker):
        folder.update(mlflow_run_id=tracker.start(_info(plan, folder, sweep)))
        for step in plan.steps:
            if step.stage in found:
                tracker.cached(step.stage, found[step.stage])
                _link(plan, step, folder)
        _judge(plan, outcome, folder)
        gates.require(outcome.verdicts)


def asked(plan: Plan) -> str:
    """The question with which the served model was checked."""
    step = next(step for step in plan.steps if step.stage == "serve")
    check = read_json(Store(plan.output_dir).folder(step.stage, step.fingerprint) / "check.json") or {}
    return next((str(turn["content"]) for turn in check.get("question", []) if turn["role"] == "user"), "Hello")


def _execute(plan: Plan, workers: Workers, tracker: Tracker, sweep: str | None) -> Outcome:
    with explained(plan.output_dir):
        plan.output_dir.mkdir(parents=True, exist_ok=True)
    trains = any(step.stage == "train" and step.action != "cached" for step in plan.steps)
    modules = [*PRELOADED, "trl.trainer.sft_trainer"] if trains else PRELOADED
    if not _nothing_left(plan, _verdicts(plan)):
        workers.start(modules, plan.output_dir / "worker.log")
    folder = RunFolder(plan, sweep)
    for killed, state in orphans(plan.output_dir, told=enabled(plan.run.config.tracking)):
        tracker.mark_killed(killed, state.get("mlflow_run_id"))
    outcome = Outcome("completed", folder.path)
    with ended(plan, outcome, folder, tracker):
        outcome.mlflow_run_id = tracker.start(_info(plan, folder, sweep))
        folder.update(mlflow_run_id=outcome.mlflow_run_id)
        progress, held = Progress(plan), []
        for step in plan.steps:
            if step.stage in held:
                progress.note(step.stage, "does not run: the model is not fit to serve")
                continue
            if step.action == "cached" and step.manifest:
                tracker.cached(step.stage, step.manifest)
                outcome.manifests[step.stage] = step.manifest
            else:
                outcome.manifests[step.stage] = _work(plan, step, modules, workers, tracker, progress)
            _link(plan, step, folder)
            if step.stage == "baseline" and "evaluate" in [later.stage for later in plan.steps]:
                gates.require_measured(plan.run.config, outcome.manifests["baseline"]["metrics"]["base"])
            if step.stage == "evaluate":
                held = _judge(plan, outcome, folder, progress)
        outcome.model = model_of(plan, folder.path)
        gates.require(outcome.verdicts)
    return outcome


def _known(plan: Plan) -> Outcome | None:
    """How a run ended that is found again: everything is cached, but for what a failed gate holds back.

    None where something is left to do, and where the gates say of the same scores what no earlier run was told.
    """
    verdicts = _verdicts(plan)
    if not _nothing_left(plan, verdicts):
        return None
    with suppress(OSError, SftError):  # what cannot be written there stays as it is
        for _ in orphans(plan.output_dir, told=()):  # the trackers hear of it when one of them is next used
            continue
    folder = earlier(plan, verdicts)
    if folder is None and earlier(plan):
        return None
    if folder and not all((folder / name).is_file() for name in (report.PAGE, report.SUMMARY)):
        report.again(folder)
    found = {step.stage: step.manifest for step in plan.steps if step.action == "cached" and step.manifest}
    model = model_of(plan, folder)
    outcome = Outcome("completed", folder, found, headline(found), model=model, verdicts=verdicts, known=True)
    try:
        gates.require(verdicts)
    except GateFailed as error:
        outcome.state, outcome.error = "failed", error
    return outcome


def _verdicts(plan: Plan) -> list[Verdict]:
    """What the gates say of scores that are there already."""
    found = {step.stage: step.manifest for step in plan.steps if step.action == "cached" and step.manifest}
    return gates.judge(plan.run.config, found)


def _nothing_left(plan: Plan, verdicts: Sequence[Verdict]) -> bool:
    """Whether all that may run is cached."""
    held = gates.held_back(verdicts, plan.run.config.force)
    return all(step.action == "cached" or step.stage in held for step in plan.steps)


def _judge(plan: Plan, outcome: Outcome, folder: RunFolder, progress: Progress | None = None) -> list[str]:
    """Hold the scores against the gates and write down what comes of it; returns the stages that must not run."""
    if "evaluate" not in outcome.manifests:
        return []
    outcome.verdicts = gates.judge(plan.run.config, outcome.manifests)
    folder.update(**gates.told(outcome.verdicts) | {"fit_to_serve": fit(outcome, over=False)})
    held = gates.held_back(outcome.verdicts, plan.run.config.force)
    missed = gates.failed(outcome.verdicts)
    for step in plan.steps if missed and progress else ():
        if progress and step.stage in gates.HELD_BACK and step.stage not in held:
            progress.note(step.stage, f"NOT FIT TO SERVE, and runs all the same, as force says: {missed[0]}")
    return held


def _work(
    plan: Plan, step: Step, modules: list[str], workers: Workers, tracker: Tracker, progress: Progress
) -> Mapping[str, Any]:
    """Have the worker run one stage; returns its manifest."""
    store = Store(plan.output_dir)
    partial = store.partial(step.stage, step.fingerprint)
    reader = EventReader(partial / EVENTS, from_end=True)
    worker = workers.start(modules, plan.output_dir / "worker.log")
    progress.begin(step)
    tracked = tracker.start_stage(step.stage)
    result: dict[str, Any] = {}
    state, manifest = "cancelled", None
    try:
        worker.send(partial, values=_request(plan, step), force=step.forced, mlflow_run_id=tracked)
        for message in worker.messages():
            for event in reader.new():
                tracker.report(step.stage, event)
                progress.event(step.stage, event)
            if message and message["state"] == "waiting":
                progress.note(step.stage, f"another run works on it{_holder(partial)}; waiting for its result")
            elif message and message["state"] == "ended":
                result["code"] = message["code"]
            elif message:
                result = message
        if result.get("state") in ("completed", "reused"):
            manifest = store.find(step.stage, step.fingerprint)
        state = "completed" if manifest else "failed"
        reader.path = store.folder(step.stage, step.fingerprint) / EVENTS
        for event in reader.new():
            tracker.report(step.stage, event)
            progress.event(step.stage, event)
        if manifest is None:
            raise _failure(step, result, partial)
        return manifest
    finally:
        if state == "cancelled":
            workers.close()
        progress.end(step.stage, "reused" if result.get("state") == "reused" else state, manifest)
        tracker.end_stage(step.stage, state, manifest, store.folder(step.stage, step.fingerprint) if manifest else None)


def _request(plan: Plan, step: Step) -> dict[str, Any]:
    """What `stage.json` says: all that a worker needs, wherever it is started."""
    config = asdict(plan.run.config)
    del config["tracking"]  # a tracker's address may hold a password, and stages never see trackers
    for part, key in (("data", "path"), ("model", "name"), ("evaluate", "benchmarks_path")):
        if config[part][key] and Path(config[part][key]).expanduser().exists():
            config[part][key] = str(Path(config[part][key]).expanduser().resolve())
    if adapter := adapter_of(plan.run.config):
        config["train"]["continue_from"] = str(adapter)
    return {
        "stage": step.stage,
        "version": step.ingredients.version,
        "fingerprint": step.fingerprint,
        "inputs": step.ingredients.inputs,
        "ingredients": asdict(step.ingredients),
        "config": config,
    }


def _failure(step: Step, result: Mapping[str, Any], partial: Path) -> SftError:
    """The stage's own error, with the place of its log and the way on."""
    log = partial / LOG
    way = (
        "after that, the same command goes on from here" if result.get("hint") else "the same command goes on from here"
    )
    if "message" not in result:
        told = launcher.ended(int(result.get("code", 1)))
        return StageFailed(f"{step.stage}: the process ended ({told})", f"log: {log}\n  {way}")
    kinds: dict[int, type[SftError]] = {1: StageFailed, 2: errors.UserError, 3: MachineError}
    kind, message = kinds[int(result["exit_code"])], str(result["message"]).removeprefix(f"{step.stage}: ")
    again = "" if kind is errors.UserError else way  # what the user wrote must change first
    hint = "\n  ".join(part for part in (result["hint"], f"log: {log}", again) if part)
    return kind(f"{step.stage}: {message}", hint)


def _holder(partial: Path) -> str:
    for event in EventReader(partial / EVENTS).new():
        if event.get("state") == "running":
            return f" (process {event.get('pid')} on {event.get('host')})"
    return ""


def _info(plan: Plan, folder: RunFolder, sweep: str | None) -> RunInfo:
    config = plan.run.config
    params = {key: value for key, (value, _) in flatten(config).items()}
    tags = {f"sft.{group}": choice for group, choice in plan.run.choices.items() if choice != "None"}
    tags |= {
        "sft.model_name": config.model.name,
        "sft.folder": str(folder.path),
        "sft.overrides": " ".join(
            word for word in folder.state["overrides"] if not word.lstrip("+").startswith(TRACKING)
        ),
    }
    if sweep:
        tags["sft.sweep"] = sweep
    return RunInfo(config.name, folder.path, params, tags, interrupted(plan))


def _link(plan: Plan, step: Step, folder: RunFolder) -> None:
    """`model`, `adapter` and `export` in the run folder."""
    output = Store(plan.output_dir).folder(step.stage, step.fingerprint)
    if step.stage == "export":
        folder.link("export", output)
    for stage, name in (("merge", "model"), ("train", "adapter")):
        if step.stage == stage:
            folder.link(name, output / name)
