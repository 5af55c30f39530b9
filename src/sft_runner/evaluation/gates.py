"""What a tuned model must reach to be served (`evaluate.gates`), judged from the scores on every run.

    evaluate:
      gates:
        exact_match: {min: 0.6, min_gain: 0.05}
        general: {perplexity: {max_ratio: 1.02}}            # a set, a source, or a kind of held-out rows
        benchmarks: {gsm8k: {exact_match_strict_match: {min: 0.3}}}

Nothing here counts in a fingerprint: other limits are another verdict on the same scores.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sft_runner.config.schema import Config
from sft_runner.errors import GateFailed, UserError, raise_all
from sft_runner.evaluation import names
from sft_runner.evaluation.verdict import LEAST, Verdict, number

LIMITS = {
    "min": "the tuned model's score is at least this",
    "max": "the tuned model's score is at most this",
    "min_gain": "the tuned model is better than the base by at least this",
    "max_ratio": "the tuned model's score is at most so many times the base's",
}
"""The limits that a gate may have."""
SURE = "sure"
"""Stands beside the limits: the worse end of the 95 % interval must meet them too."""
BENCHMARKS = "benchmarks"
"""The group whose parts are tasks of `evaluate.benchmarks`."""
HELD_BACK = ("export", "serve")
"""The stages that a model has to be fit for."""


@dataclass(frozen=True)
class Gate:
    """All limits on one metric."""

    place: tuple[str, ...]
    """Its keys below `evaluate.gates`: `("general", "perplexity")`."""
    limits: Mapping[str, float]
    """Limit -> number."""
    sure: bool = False
    """Whether the worse end of the interval is judged too."""

    @property
    def name(self) -> str:
        """As it is shown: `general.perplexity`."""
        return ".".join(self.place)


def gates_of(config: Config) -> Iterator[Gate]:
    """The gates of a configuration that was checked."""
    for place, limits in places(config.evaluate.gates):
        numbers = {limit: float(value) for limit, value in limits.items() if limit in LIMITS}
        yield Gate(place, numbers, bool(limits.get(SURE)))


def places(gates: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Where limits stand below `evaluate.gates`, and what stands there: one level deep for a metric, two for a group,
    three for benchmarks. What is no mapping ends sooner."""
    for name, value in gates.items():
        yield from _below((name,), value, depth(name))


def depth(name: str) -> int:
    """How many keys lead to the limits below a key of `evaluate.gates`."""
    return 3 if name == BENCHMARKS else 1 if names.exists(name) else 2


def judge(config: Config, manifests: Mapping[str, Mapping[str, Any]]) -> list[Verdict]:
    """What came of each limit, from the manifests of a run; nothing before the tuned model is evaluated."""
    if "evaluate" not in manifests:
        return []
    scores, alone = manifests["evaluate"]["metrics"], _alone(config)
    return [
        _verdict(gate, limit, wanted, scores, alone)
        for gate in gates_of(config)
        for limit, wanted in gate.limits.items()
    ]


def require_measured(config: Config, base: Mapping[str, Any]) -> None:
    """Raise `UserError` where a gate is about what is not among the base's scores: the tuned model will have no others,
    and has yet to be trained."""
    errors = []
    for gate in gates_of(config):
        scores = _part(base, gate.place, _alone(config))
        if gate.place[-1] not in scores:
            key = ".".join(("evaluate.gates", *gate.place))
            errors.append(UserError(f"{key} was not measured", _instead(_metrics(scores)) or _NO_ROWS))
    raise_all(errors)


def told(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """What `run.json` says of them, once the tuned model is evaluated."""
    return {"gates": [asdict(verdict) for verdict in verdicts], "fit_to_serve": all(v.passed for v in verdicts)}


def read(state: Mapping[str, Any]) -> list[Verdict]:
    """The verdicts that a `run.json` tells."""
    known = {item.name for item in fields(Verdict)}
    said = [dict(entry) for entry in state.get("gates") or () if isinstance(entry, Mapping)]
    for entry in said:
        entry["interval"] = tuple(entry["interval"]) if entry.get("interval") else None
        entry["measured"] = tuple(entry.get("measured") or ())
    return [Verdict(**{key: value for key, value in entry.items() if key in known}) for entry in said]


def failed(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Those that are not met, the worst first: by how much of the limit it was missed."""

    def miss(verdict: Verdict) -> float:
        if verdict.missed_by is None:
            return math.inf
        return verdict.missed_by / max(abs(verdict.wanted), abs(verdict.judged or 0.0), 1e-12)

    return sorted((verdict for verdict in verdicts if not verdict.passed), key=miss, reverse=True)


def held_back(verdicts: Sequence[Verdict], force: Collection[str]) -> list[str]:
    """The stages that must not run; one that is forced runs all the same."""
    return [stage for stage in HELD_BACK if stage not in force] if failed(verdicts) else []


def require(verdicts: Sequence[Verdict]) -> None:
    """Raise `GateFailed` where one failed."""
    missed = failed(verdicts)
    if not missed:
        return
    worst = missed[0]
    by = "" if worst.missed_by is None else f", missed by {number(worst.missed_by)}"
    others = f"; {len(missed)} of {len(verdicts)} limits are not met" if len(missed) > 1 else ""
    way = "train it better, or change what evaluate.gates wants"
    if worst.found is None:
        way = _instead(worst.measured) or _NO_ROWS
    elif worst.judged is None:
        way = "hold out more rows (data.held_out, evaluate.limit), or take sure out"
    raise GateFailed(
        f"evaluate.gates: {worst}{by}{others}",
        f"what was trained is kept and not fit to serve: {way};\n"
        "  stage=serve force=[serve] merges and serves it all the same",
    )


_NO_ROWS = "no row was scored there; see the notes of the baseline stage"


def _instead(measured: Sequence[str]) -> str:
    """What to do where a metric was not measured and others were."""
    return f"measured there: {', '.join(measured)}" if measured else ""


def _metrics(scores: Mapping[str, Any]) -> tuple[str, ...]:
    """The metrics among the scores of one part."""
    return tuple(
        name
        for name, value in scores.items()
        if _finite(value) is not None and name not in names.COUNTS and not name.endswith("_stderr")
    )


def _alone(config: Config) -> str:
    """The only source; its scores are not told apart from those of all rows."""
    return next(iter(config.data.sources)) if len(config.data.sources) == 1 else ""


def _below(place: tuple[str, ...], value: Any, keys: int) -> Iterator[tuple[tuple[str, ...], Any]]:
    if keys == 1 or not isinstance(value, Mapping) or not value:
        yield place, value
        return
    for name, part in value.items():
        yield from _below((*place, str(name)), part, keys - 1)


def _verdict(gate: Gate, limit: str, wanted: float, scores: Mapping[str, Any], alone: str) -> Verdict:
    metric = gate.place[-1]
    sides = {side: _part(scores.get(side), gate.place, alone) for side in ("base", "tuned", "gain", "intervals")}
    base, tuned, gain = (_finite(sides[side].get(metric)) for side in ("base", "tuned", "gain"))
    intervals = sides["intervals"].get(metric) or {}
    interval = _ends(intervals.get("tuned" if limit in ("min", "max") else "gain"))
    found = tuned if limit in ("min", "max") else gain
    if limit == "max_ratio":
        found = _ratio(tuned, base)
        interval = _ratio_interval(metric, sides["intervals"], base)
    verdict = Verdict(gate.name, limit, wanted, found, True, None, interval, gate.sure)
    judged = verdict.judged
    missed = math.nan if judged is None else wanted - judged if limit in LEAST else judged - wanted
    if judged is not None and (missed <= 0 or math.isclose(judged, wanted, rel_tol=1e-9, abs_tol=1e-12)):
        return verdict
    by = None if math.isnan(missed) else missed
    others = _metrics(sides["tuned"]) if found is None else ()
    return Verdict(gate.name, limit, wanted, found, False, by, interval, gate.sure, others)


def _part(side: Any, place: tuple[str, ...], alone: str) -> Mapping[str, Any]:
    """The scores that a gate is about."""
    scores: Mapping[str, Any] = side if isinstance(side, Mapping) else {}
    if len(place) == 1:
        return scores
    if place[0] == BENCHMARKS:
        return (scores.get(BENCHMARKS) or {}).get(place[1]) or {}
    group = place[0]
    found = (scores.get("sets") or {}).get(group) or (scores.get("by") or {}).get(group)
    return found or (scores if group == alone else {})


def _ratio(tuned: float | None, base: float | None) -> float | None:
    """Tuned by base; of two that are 0 it is 1, and of another base that is not positive there is none."""
    if tuned is None or base is None:
        return None
    if base > 0:
        return tuned / base
    return 1.0 if tuned == base else None


def _ratio_interval(metric: str, intervals: Mapping[str, Any], base: float | None) -> tuple[float, float] | None:
    """From the paired interval of the gain, of a metric of which less is better: others have no limit of a ratio. That
    of a perplexity is e to the power of what the loss lost; of other metrics the base's own score is taken as it is."""
    if metric == "perplexity" and (ends := _ends((intervals.get("loss") or {}).get("gain"))):
        return math.exp(min(-ends[1], 700.0)), math.exp(min(-ends[0], 700.0))  # a float ends at e^709
    ends = _ends((intervals.get(metric) or {}).get("gain"))
    if ends is None or base is None or base <= 0:
        return None
    low, high = ends
    return 1 - high / base, 1 - low / base


def _finite(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if number else None


def _ends(interval: Any) -> tuple[float, float] | None:
    ends = interval if isinstance(interval, Mapping) else {}
    low, high = _finite(ends.get("low")), _finite(ends.get("high"))
    return None if low is None or high is None else (low, high)
