"""How a run ended: its manifests, the numbers that it is judged by, and where its model is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sft_runner.errors import SftError
from sft_runner.evaluation.verdict import Verdict
from sft_runner.planning import Plan
from sft_runner.store import Store
from sft_runner.tracking.numbers import flat


@dataclass
class Outcome:
    """How a run ended."""

    state: str
    """`completed` or `failed`; failed too where all went well, and the model does not pass its gates."""
    folder: Path | None
    """The run folder; None where everything was cached and no finished run is known."""
    manifests: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Stage -> manifest."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Headline metrics, flat: `tuned.exact_match`."""
    mlflow_run_id: str | None = None
    """MLflow's id of the run."""
    error: SftError | None = None
    """Why it failed."""
    model: Path | None = None
    """The merged model, where it was made."""
    verdicts: list[Verdict] = field(default_factory=list)
    """What came of each limit of `evaluate.gates`, once the model is evaluated."""
    known: bool = False
    """Whether nothing was done: all of it was found as an earlier run left it."""


def headline(manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The numbers that a run is judged by."""
    best = manifests.get("evaluate") or manifests.get("baseline")
    found = flat(best["metrics"]) if best else {}
    if "train" in manifests:
        found["train.loss"] = manifests["train"]["metrics"]["loss"]
    if "merge" in manifests:
        found["merge.difference"] = manifests["merge"]["metrics"]["difference"]["max"]
    return found


def model_of(plan: Plan, run: Path | None) -> Path | None:
    """The merged model: by its name in the run folder, else where the stage made it."""
    places = [run / "model"] if run else []
    places += [
        Store(plan.output_dir).folder(s.stage, s.fingerprint) / "model" for s in plan.steps if s.stage == "merge"
    ]
    return next((place for place in places if place.exists()), None)
