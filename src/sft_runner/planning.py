"""From a settled run to ordered steps: which stages run, which are cached, which go on, and why.

Pure: reads the disk, writes nothing, imports nothing heavy, and prints itself.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sft_runner.config import conflicts
from sft_runner.config.run import Run
from sft_runner.cost import settling
from sft_runner.cost.fitting import Fitted
from sft_runner.data import files, sets
from sft_runner.errors import UserError, raise_all
from sft_runner.evaluation import engines
from sft_runner.facts import Known, facts, warnings
from sft_runner.fingerprint import UNRESOLVED, Hashes, Ingredients, chain
from sft_runner.method import method_of
from sft_runner.model import continuing
from sft_runner.model.architecture import Architecture, architecture
from sft_runner.model.files import locate
from sft_runner.runs import adapter_of
from sft_runner.stages import STAGES
from sft_runner.store import Store
from sft_runner.training.checkpoints import latest


@dataclass(frozen=True)
class Step:
    """One stage of a plan."""

    stage: str
    """Its name."""
    action: str
    """`run`, `cached` or `resume`."""
    fingerprint: str
    """What identifies its output."""
    why: str
    """The reason for the action."""
    ingredients: Ingredients
    """What the fingerprint was made of."""
    manifest: Mapping[str, Any] | None = None
    """The manifest of a cached stage."""
    forced: bool = False
    """Whether it runs although its output is there."""


@dataclass(frozen=True)
class Plan:
    """What one command will do."""

    run: Run
    """The settled run."""
    output_dir: Path
    """Absolute path of `output_dir`."""
    steps: tuple[Step, ...]
    """The stages in order."""
    facts: tuple[str, ...] = field(default=())
    """Lines on rows, steps and fit."""
    asked: Run | None = None
    """The run before it was fitted to the machine: what the plan is made from again, once the model or the data is
    here."""

    @property
    def cached(self) -> bool:
        """Whether nothing is left to do."""
        return all(step.action == "cached" for step in self.steps)

    def __str__(self) -> str:
        doubts = (f"  warning: {warning}" for warning in self.run.warnings)
        return "\n".join([self.title(), *self.table(), *(f"  {fact}" for fact in self.facts), *doubts])

    def title(self) -> str:
        """One line that names the run."""
        config = self.run.config
        rank = f" r={config.lora.r}" if config.adapter == "lora" else ""
        return " · ".join([config.name, config.model.name, f"{method_of(config).name}{rank}", config.hardware.name])

    def table(self) -> list[str]:
        """One line for each stage."""
        width = max(len(step.stage) for step in self.steps)
        open_: set[str] = set()  # stages of which something is not on this machine yet, and what is made from them
        for step in self.steps:
            if UNRESOLVED in (step.ingredients.model, step.ingredients.data) or open_ & set(step.ingredients.inputs):
                open_.add(step.stage)
        marks = ["unresolved" if step.stage in open_ else step.fingerprint[:12] for step in self.steps]
        return [
            f"  {s.stage:<{width}}  {s.action:<6}  {mark:<12}  {s.why}".rstrip()
            for s, mark in zip(self.steps, marks, strict=True)
        ]

    def to_json(self) -> dict[str, Any]:
        """The plan for `plan.json`."""
        return {
            "title": self.title(),
            "steps": [
                {"stage": s.stage, "action": s.action, "fingerprint": s.fingerprint, "why": s.why} for s in self.steps
            ],
            "decisions": [vars(decision) for decision in self.run.decisions],
            "facts": list(self.facts),
            "warnings": list(self.run.warnings),
        }


def plan(run: Run) -> Plan:
    """Plan a run. Raises `UserError` for data or a model that cannot be used, all at once, and for a locked run that is
    not what its lock says."""
    if run.config.locked:
        from sft_runner.review.lock import holding  # asks for the stages of a plan itself

        run = holding.pinned(run)
    asked, run = run, engines.settled(run)
    config = run.config
    hashes = Hashes()
    data, arch = _checked(run, hashes)
    if config.locked:
        run = holding.require(run, hashes)
    output_dir = Path(config.output_dir).expanduser().resolve()
    store = Store(output_dir)
    steps: dict[str, Step] = {}
    for name, ingredients in chain(config, wanted(config.stage.until, config.export), data, hashes).items():
        steps[name] = _step(name, ingredients, store, steps, _forced_by(name, config.force, steps))
    hashes.save()
    settled, fitted = _settled(run, arch, steps)
    settled, scoring = _scored(settled, arch, steps)
    known = Known(store, tuple(steps.values()), arch, fitted, scoring)
    doubts = dict.fromkeys((*run.warnings, *warnings(settled, known)))
    settled = replace(settled, warnings=tuple(doubts))
    return Plan(settled, output_dir, known.steps, tuple(facts(settled, known)), asked)


def wanted(until: str, export: Collection[str] = ()) -> list[str]:
    """The stages that `until` needs, in order. What is served is evaluated, and exported in the forms asked for."""
    needed: set[str] = set()
    queue = [until]
    if until == "serve":
        queue += ["evaluate", "export"] if export else ["evaluate"]
    while queue:
        name = queue.pop()
        needed.add(name)
        queue += STAGES[name].inputs
    return [name for name in STAGES if name in needed]


def _checked(run: Run, hashes: Hashes) -> tuple[dict[str, str], Architecture | None]:
    """The hashes of the user's files and the model's shape; all mistakes in what a run starts from are told at once."""
    errors = list(conflicts.nothing_to_learn(run.config))
    stages = wanted(run.config.stage.until, run.config.export)
    found, arch = {}, None
    for name, data in (("data", run.config.data), ("sets", sets.as_data(run.config))):
        found[name] = UNRESOLVED if data else ""
        try:
            if data and not errors and not files.missing(data):
                files.check(data)
                found[name] = files.content_hash(data, hashes.of)
        except UserError as error:
            errors.append(error)
    try:
        arch = architecture(run.config.model)
    except UserError as error:
        errors.append(error)
    errors += continuing.check(run.config, adapter_of(run.config))
    if {"baseline", "evaluate"} & set(stages):
        errors += conflicts.nothing_to_score(run.config)
    if errors and arch and "train" in stages:
        try:
            settling.settled(run, arch)
        except UserError as error:
            errors.append(error)
    raise_all(errors)
    return found, arch


def _settled(run: Run, arch: Architecture | None, steps: Mapping[str, Step]) -> tuple[Run, Fitted | None]:
    """The run with its micro-batch and checkpointing, where training is still to come.

    While a model that nothing is known of is not here, they stay open: the plan is made again once it is.
    """
    train = steps.get("train")
    if train is None or train.action == "cached" or (arch is None and locate(run.config.model).folder is None):
        return run, None
    return settling.settled(run, arch)


def _scored(run: Run, arch: Architecture | None, steps: Mapping[str, Step]) -> tuple[Run, int | None]:
    """The run with its rows scored at once, and the bytes that they take, where a model is still to be scored."""
    scoring = [steps[name] for name in ("baseline", "evaluate") if name in steps]
    if arch is None or all(step.action == "cached" for step in scoring):
        return run, None
    return settling.scored(run, arch)


def _forced_by(name: str, force: list[str], before: Mapping[str, Step]) -> str:
    """Why a stage must run although its output is there: asked for, or made from an output that is made anew.

    What an accelerator computes anew may differ in its last bits; what `prepare` makes anew is the same.
    """
    if name in force:
        return "force"
    for step in (before[stage] for stage in STAGES[name].inputs):
        if step.action != "cached" and (step.forced or STAGES[step.stage].gpu):
            return f"{step.stage} runs again"
    return ""


def _step(name: str, ingredients: Ingredients, store: Store, before: Mapping[str, Step], forced: str) -> Step:
    fingerprint = ingredients.fingerprint()
    manifest = store.find(name, fingerprint)
    unresolved = ingredients.model == UNRESOLVED
    if manifest and not forced and not unresolved:
        return Step(name, "cached", fingerprint, f"made {_local(manifest)}", ingredients, manifest)
    sealed = latest(store.partial(name, fingerprint) / "checkpoints") if "checkpoints" in STAGES[name].keeps else None
    if sealed:
        return Step(
            name, "resume", fingerprint, f"from step {sealed[0]}", ingredients, forced=bool(manifest and forced)
        )
    if manifest and forced:
        return Step(name, "run", fingerprint, forced, ingredients, forced=True)
    if unresolved:
        return Step(name, "run", fingerprint, "the model is not on this machine yet", ingredients)
    if ingredients.data == UNRESOLVED:
        return Step(name, "run", fingerprint, "the data is not on this machine yet", ingredients)
    return Step(name, "run", fingerprint, _why(name, ingredients, store, before), ingredients)


def _why(name: str, new: Ingredients, store: Store, before: Mapping[str, Step]) -> str:
    """The difference to the nearest output that there is."""
    nearest: list[str] | None = None
    for manifest in store.manifests(name):
        differences = _differences(new, manifest, before)
        if manifest.get("fingerprint") == new.fingerprint():
            return "its files are damaged or missing"
        if differences and (nearest is None or len(differences) < len(nearest)):
            nearest = differences
    if nearest is None:
        return "first time"
    return ", ".join(nearest[:3]) + (f" and {len(nearest) - 3} more" if len(nearest) > 3 else "")


def _differences(new: Ingredients, old: Mapping[str, Any], before: Mapping[str, Step]) -> list[str]:
    """What is not the same, each in a few words."""
    was, now = dict(old.get("config", {})), new.config
    found = [
        f"{key} {_value(was, key)} → {_value(now, key)}" for key in sorted({*was, *now}) if was.get(key) != now.get(key)
    ]
    if old.get("version") != new.version:
        found.append(f"{new.stage} version {old.get('version')} → {new.version}")
    if old.get("model") != new.model:
        found.append("tokenizer changed" if new.stage == "prepare" else "model changed")
    if old.get("data") != new.data:
        found.append("data changed")
    for name, fingerprint in new.inputs.items():
        if dict(old.get("inputs", {})).get(name) != fingerprint:
            found.append(f"{name} changed" if name not in before or before[name].action == "cached" else f"{name} runs")
    return found


def _local(manifest: Mapping[str, Any]) -> str:
    """When it was made, in the time of this place."""
    return f"{datetime.fromisoformat(manifest['created']).astimezone():%Y-%m-%d %H:%M}"


def _value(settings: Mapping[str, Any], key: str) -> str:
    value = settings.get(key, "open")
    return f"{value:.12g}" if isinstance(value, float) else str(value)
