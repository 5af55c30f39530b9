"""Run folders: `runs/<name>/<time>-<4 hex>/` with what was asked, what was planned, and how it ended."""

import os
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from platform import node
from typing import TYPE_CHECKING, Any

import yaml
from filelock import FileLock, Timeout

from sft_runner import hardware, recipe, seal
from sft_runner.config.schema import Config
from sft_runner.disk import explained, json_bytes, read_json, write_json
from sft_runner.errors import UnknownName, UserError
from sft_runner.evaluation import gates
from sft_runner.evaluation.verdict import Verdict
from sft_runner.masking import masked
from sft_runner.model.continuing import KEY, in_folder
from sft_runner.tracking.requirements import enabled

if TYPE_CHECKING:
    from sft_runner.planning import Plan

CONFIG, PLAN, STATE, LOCK = "config.yaml", "plan.json", "run.json", seal.LOCK


class RunFolder:
    """The folder of a run that is under way. Its lock ends with this process, however it ends."""

    def __init__(self, plan: "Plan", sweep: str | None = None) -> None:
        time = datetime.now().astimezone()
        name = f"{time:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        self.path = plan.output_dir / "runs" / plan.run.config.name / name
        with explained(self.path):
            self.path.mkdir(parents=True)
            self.lock = FileLock(self.path / LOCK)
            self.lock.acquire()
            text = yaml.safe_dump(_without_secrets(asdict(plan.run.config)), sort_keys=False, allow_unicode=True)
            (self.path / CONFIG).write_text(text, encoding="utf-8")
            asked = recipe.keep(plan.run.choices, self.path)
        write_json(self.path / PLAN, plan.to_json())
        self.state: dict[str, Any] = {
            "name": plan.run.config.name,
            "state": "running",
            "started": time.isoformat(timespec="seconds"),
            "overrides": [masked(word) for word in plan.run.overrides],
            "choices": plan.run.choices,
            "recipe": asked,
            "sweep": sweep,
            "locked": plan.run.config.locked,
            "stages": {step.stage: step.fingerprint for step in plan.steps},
            "gates": [],
            "fit_to_serve": None,  # nobody knows before the run has ended
            "trackers": enabled(plan.run.config.tracking),
            "mlflow_run_id": None,
            "pid": os.getpid(),
            "host": node(),
            "cwd": os.getcwd(),  # where relative paths lead from
            "machine": _machine(plan.run.config),
        }
        self.update()

    def update(self, **values: Any) -> None:
        """Write `run.json` anew."""
        self.state |= values
        write_json(self.path / STATE, self.state)

    def link(self, name: str, target: Path) -> None:
        """Make `name` in the run folder point to a stage's output, relative, so that `output_dir` can be moved."""
        link = self.path / name
        if target.exists() and not link.is_symlink():
            link.symlink_to(os.path.relpath(target, self.path))

    def end(self, state: str, metrics: Mapping[str, float], **values: Any) -> None:
        """The run is over. Its trackers do not know of it yet."""
        ended = datetime.now().astimezone().isoformat(timespec="seconds")
        self.update(state=state, ended=ended, metrics=dict(metrics), untold=self.state["trackers"], **values)

    def seal(self, stages: Mapping[str, tuple[Path, Mapping[str, Any]]]) -> None:
        """The hashes of what no manifest lists, last of all; `run.json` then says that there is a seal, so that one
        that is removed is missed. `stages` as for `seal.of_run`."""
        seal.of_run(self.path, stages)
        self.state["sealed"] = True
        seal.rewrite(self.path, {STATE: json_bytes(self.state)}, held=True)

    def close(self) -> None:
        """Nothing is written into it any more by this process."""
        self.lock.release()


def runs(output_dir: Path, name: str = "*") -> Iterator[tuple[Path, dict[str, Any]]]:
    """All run folders with their `run.json`, the newest first."""
    folders = sorted((output_dir / "runs").glob(f"{name}/*/"), key=lambda path: path.name, reverse=True)
    for folder in folders:
        state = read_json(folder / STATE)
        if isinstance(state, dict):
            yield folder, state


def state_of(folder: Path, state: str) -> str:
    """The true state of a run whose `run.json` says `state`: `killed` where it runs no more and could not say so."""
    if state != "running" or (read_json(folder / STATE) or {}).get("host") != node():
        return state
    if not (folder / LOCK).is_file():
        return "killed"
    try:
        with FileLock(folder / LOCK, timeout=0):
            return "killed"
    except (Timeout, OSError):  # somebody holds it, or it is not ours to look at
        return state


def adapter_of(config: Config) -> Path | None:
    """The PEFT folder that `train.continue_from` means, absolute; None where it is open.

    It is a run folder, a folder with an adapter, or the name of a run: then the newest one that completed and has an
    adapter. Raises `UserError`.
    """
    named = config.train.continue_from
    if named is None:
        return None
    folder = Path(named).expanduser()
    return in_folder(folder.absolute()) if folder.is_dir() else _adapter_by_name(named, config)


def earlier(plan: "Plan", verdicts: Sequence[Verdict] | None = None) -> Path | None:
    """A finished run with the same stages, and with these verdicts where a model was evaluated; where the outputs were
    copied without one, None."""
    stages = {step.stage: step.fingerprint for step in plan.steps}
    for folder, state in runs(plan.output_dir):
        known = state.get("stages", {})
        if not _finished(state) or any(known.get(stage) != fp for stage, fp in stages.items()):
            continue
        if verdicts is None or "evaluate" not in stages or gates.read(state) == list(verdicts):
            return folder
    return None


def interrupted(plan: "Plan") -> str | None:
    """`<name>/<time>-<hex>` of the newest run that left a stage which this plan goes on with."""
    going_on = {step.stage: step.fingerprint for step in plan.steps if step.action == "resume"}
    for folder, state in runs(plan.output_dir) if going_on else ():
        known = state.get("stages", {})
        if state.get("state") not in ("running", "completed") and any(known.get(s) == fp for s, fp in going_on.items()):
            return f"{folder.parent.name}/{folder.name}"
    return None


def orphans(output_dir: Path, told: Collection[str]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Runs that say they are running although nobody holds their lock: they were killed. Marks them so afterwards.
    So does one that ended and was killed before its trackers knew.

    `told` are the trackers that hear of it now. One that is off at the moment hears of it when it is next used.
    """
    for folder, state in runs(output_dir):
        if state.get("host") != node() or not _news(state, told):
            continue
        lock = FileLock(folder / LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            continue
        state = read_json(folder / STATE) or {}  # it may have ended since
        if _news(state, told):
            yield folder, state
            left = [name for name in state.get("untold", state.get("trackers", [])) if name not in told]
            dead = "killed" if state["state"] == "running" else state["state"]
            content = json_bytes({**state, "state": dead, "untold": left})
            seal.rewrite(folder, {STATE: content}, held=True, from_itself=True)
        lock.release()


def _adapter_by_name(name: str, config: Config) -> Path:
    """The adapter of the newest finished run of that name."""
    output_dir = Path(config.output_dir)
    names = {state["name"] for _, state in runs(output_dir) if state.get("name")}
    if "/" in name or name not in names:
        if names and "/" not in name:
            raise UnknownName("run", name, names, f"{KEY}: ")
        raise UserError(
            f"{KEY}: there is no folder and no run '{name}'",
            "give a run folder, the name of a run, or a folder with a PEFT adapter"
            + (f"; runs in {output_dir}: {', '.join(sorted(names))}" if names else ""),
        )
    finished = [folder for folder, state in runs(output_dir, name) if _finished(state)]
    found = next((folder for folder in finished if (folder / "adapter").exists()), None)
    if name == config.name:
        raise UserError(
            f"{KEY}={name} is the name of this run itself: each time, it would go on from its own result",
            f"give this run a new name, such as name={name}-2"
            + (f", or name the run folder: {KEY}={found}" if found else ""),
        )
    if found is None and finished:
        return in_folder(finished[0].absolute())  # says what is there instead
    if found is None:
        raise UserError(f"{KEY}: no run '{name}' has completed", "finish it first, or name a run folder")
    return in_folder(found.absolute())


def _machine(config: Config) -> dict[str, Any]:
    """What this process may use: cores, memory in GB, and the card where the run is for one."""
    from sft_runner.cost.fitting import machine
    from sft_runner.data.pool import cores

    found: dict[str, Any] = {"cores": cores(), "memory_gb": round(machine() / hardware.GB, 2)}
    with suppress(hardware.NotAsked):
        if config.hardware.memory_gb and (cards := hardware.cards()):
            found |= {"card": cards[0].name, "card_memory_gb": round(cards[0].memory_gb, 2)}
    return found


def _finished(state: Mapping[str, Any]) -> bool:
    """Whether a run came to its end. One whose model missed a gate did: it is trained, merged and evaluated."""
    return state.get("state") == "completed" or bool(gates.failed(gates.read(state)))


def _news(state: Mapping[str, Any], told: Collection[str]) -> bool:
    """Whether a run was killed, if nobody holds its lock, and nobody knows it or one of the trackers does not."""
    return state.get("state") == "running" or any(name in told for name in state.get("untold") or ())


def _without_secrets(values: Any) -> Any:
    """The same values with the secrets of addresses masked."""
    if isinstance(values, dict):
        return {key: _without_secrets(value) for key, value in values.items()}
    return masked(values) if isinstance(values, str) else values
