"""What a tuned model must reach to be served (`evaluate.gates`), judged from the scores on every run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sft_runner.config.schema import Config


@dataclass(frozen=True)
class Verdict:
    """What came of one limit."""

    gate: str
    """The metric, behind a set's or a group's name where it is of one: `general.perplexity`."""
    limit: str
    """`min`, `max`, `min_gain` or `max_ratio`."""
    wanted: float
    """The limit."""
    found: float
    """What was measured against it."""
    passed: bool
    """Whether it is met."""


def judge(config: Config, manifests: Mapping[str, Mapping[str, Any]]) -> list[Verdict]:
    """What came of each limit, from the manifests of a run."""
    return []


def told(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """What `run.json` says of them."""
    return {"gates": [asdict(verdict) for verdict in verdicts], "fit_to_serve": all(v.passed for v in verdicts)}


def require(verdicts: Sequence[Verdict]) -> None:
    """Raise `GateFailed` where one failed."""
