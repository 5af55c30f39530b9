"""What is known of a run: read from its folder and its stages' manifests, from this process where it is still open."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sft_runner.disk import read_json
from sft_runner.errors import UnknownName, UserError
from sft_runner.runs import CONFIG, PLAN, STATE, runs, state_of
from sft_runner.store import MANIFEST, Store

if TYPE_CHECKING:
    from sft_runner.outcome import Outcome
    from sft_runner.planning import Plan
    from sft_runner.runs import RunFolder


@dataclass(frozen=True)
class Record:
    """A run, as far as it got. Everything may be missing but the folder: a report must not fail for an old run."""

    folder: Path
    """The run folder."""
    output_dir: Path
    """Where its stages lie."""
    state: str = "unknown"
    """`completed`, `failed`, `cancelled`, `running` or `killed`."""
    known: Mapping[str, Any] = field(default_factory=dict)
    """What `run.json` says."""
    plan: Mapping[str, Any] = field(default_factory=dict)
    """What `plan.json` says."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Every setting, nested; secrets masked."""
    manifests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Stage -> manifest, of the stages that are complete."""
    error: str = ""
    """Why it failed, with what to do."""
    gates: tuple[Mapping[str, Any], ...] = ()
    """What came of each limit of `evaluate.gates`."""
    fit: bool | None = None
    """Whether the model may be served; None while that is not known."""

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.known.get("name") or self.folder.parent.name)

    @property
    def label(self) -> str:
        """`<name>/<time>-<hex>`, which names it among all runs."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def stages(self) -> list[str]:
        """The stages of its plan, in their order."""
        return list(self.known.get("stages") or self.manifests)

    @property
    def scores(self) -> Mapping[str, Any]:
        """Base, tuned and gain with intervals; of a run whose stage folders are gone what `run.json` kept of them."""
        kept = self._kept()
        return self.metrics("evaluate") or (kept if "tuned" in kept else self.metrics("baseline") or kept)

    @property
    def headline(self) -> str:
        """The metric that the run is judged by."""
        asked = self.config.get("evaluate") or {}
        return str(asked.get("headline") or next(iter(asked.get("metrics") or []), "loss"))

    @property
    def seconds(self) -> float | None:
        """From its start to its end, or to this moment."""
        began = moment(self.known.get("started"))
        ended = moment(self.known.get("ended")) or (None if self.state in ("running", "killed") else _now())
        return (ended - began).total_seconds() if began and ended else None

    def metrics(self, stage: str) -> Mapping[str, Any]:
        """What a stage measured; empty where it is not complete."""
        return (self.manifests.get(stage) or {}).get("metrics") or {}

    def place(self, stage: str) -> Path:
        """The folder of a stage: complete, or as far as it got."""
        fingerprint = str((self.known.get("stages") or {}).get(stage, "unknown"))
        store = Store(self.output_dir)
        return store.folder(stage, fingerprint) if stage in self.manifests else store.partial(stage, fingerprint)

    def _kept(self) -> Mapping[str, Any]:
        """The scores in `run.json`, nested as the stages have them."""
        kept: dict[str, Any] = {}
        for key, value in (self.known.get("metrics") or {}).items():
            side, *path = str(key).split(".")  # tuned.loss, intervals.loss.gain.low
            if side in ("base", "tuned", "gain") and len(path) == 1:
                kept.setdefault(side, {})[path[0]] = value
            elif side == "intervals" and len(path) == 3:
                kept.setdefault(side, {}).setdefault(path[0], {}).setdefault(path[1], {})[path[2]] = value
        return kept


def read(folder: Path) -> Record:
    """A run as its folder tells it. Raises `UserError` where the folder does not lie where runs do."""
    folder = folder.absolute()
    if folder.parent.parent.name != "runs":
        place = "OUTPUT_DIR/runs/NAME/TIME"
        raise UserError(
            f"{folder}: this run folder was moved or copied away from its stages",
            f"its scores lie in OUTPUT_DIR/stages, and are found from {place}: copy OUTPUT_DIR as a whole",
        )
    output_dir = folder.parents[2]
    known = _mapping(read_json(folder / STATE))
    store = Store(output_dir)
    found = {
        stage: read_json(store.folder(stage, str(fingerprint)) / MANIFEST)
        for stage, fingerprint in _mapping(known.get("stages")).items()
    }
    return Record(
        folder=folder,
        output_dir=output_dir,
        state=state_of(folder, str(known.get("state", "unknown"))),
        known=known,
        plan=_mapping(read_json(folder / PLAN)),
        config=_settings(folder / CONFIG),
        manifests={stage: manifest for stage, manifest in found.items() if isinstance(manifest, dict)},
        gates=tuple(gate for gate in known.get("gates") or () if isinstance(gate, dict)),
        error=_untold(str(known.get("error") or "")),
        fit=known.get("fit_to_serve"),
    )


def of(plan: "Plan", outcome: "Outcome", run: "RunFolder") -> Record:
    """A run that ends just now: its folder does not say yet how."""
    kept = read(run.path)
    return replace(
        kept,
        output_dir=plan.output_dir,
        state=outcome.state,
        known={**kept.known, "metrics": outcome.metrics},
        manifests=dict(outcome.manifests),
        error=_untold(outcome.error.show()) if outcome.error else kept.error,
        gates=tuple(asdict(verdict) for verdict in outcome.verdicts),
    )


def find(word: str, output_dir: Path) -> Record:
    """The run that a user means: a run folder, a name (its newest run), `NAME/TIME`, or the beginning of a time.

    Raises `UnknownName` with the closest name there is, `UserError` where the beginning fits several runs.
    """
    folder = Path(word).expanduser()
    if (folder / STATE).is_file():
        return read(folder.resolve())
    known = [path for path, _ in runs(output_dir)]  # the newest first
    named = [path for path in known if path.parent.name == word]
    if named:
        return read(named[0])
    name, _, time = word.strip("/").rpartition("/")
    begun = [p for p in known if time and p.name.startswith(time) and (not name or p.parent.name == name)]
    if len(begun) == 1 or len({path.name for path in begun}) == 1:
        return read(begun[0])
    if begun:
        shown = ", ".join(f"{path.parent.name}/{path.name}" for path in begun[:5])
        raise UserError(f"run '{word}' may be any of {len(begun)}", f"write more of its time: {shown}")
    if not known:
        raise UserError(f"there is no run in {output_dir}", "name the folder that has them with --output-dir DIR")
    names = dict.fromkeys(path.parent.name for path in known)
    labels = (f"{path.parent.name}/{path.name}" for path in known)
    raise UnknownName("run", word, labels if name else [*names, *(path.name for path in known)])


def moment(text: object) -> datetime | None:
    """A time as manifests and `run.json` write it."""
    try:
        return datetime.fromisoformat(str(text)).astimezone()
    except ValueError:
        return None


def _now() -> datetime:
    return datetime.now().astimezone()


def _untold(error: str) -> str:
    """An error that the report does not tell otherwise: that a gate failed stands in the table of gates."""
    return "" if error.startswith("evaluate.gates: ") else error


def _mapping(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def _settings(path: Path) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _mapping(yaml.load(path.read_text(encoding="utf-8"), Loader=loader))  # noqa: S506
    except (OSError, ValueError, yaml.YAMLError):
        return {}
