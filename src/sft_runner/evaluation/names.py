"""The metrics that there are: what each means, which way is better, and where it comes from.

Planning reads this module, so it imports nothing that is heavy. A user's own metric is a function that an installed
package registers as an entry point of the group `sft_runner.metrics`; it is looked for only where a name is not one of
ours, and loaded only where the metric is named.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from sft_runner.errors import UnknownName, UserError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "sft_runner.metrics"
"""The entry points that are metrics."""
COUNTS = ("rows", "tokens", "answers")
"""What scores rest on; numbers among them that are no metrics."""


@dataclass(frozen=True)
class Named:
    """What is known of a metric before anything is measured."""

    name: str
    """As `evaluate.metrics` and `evaluate.gates` have it."""
    help: str
    """What it measures, in a line."""
    lower_is_better: bool = False
    """Whether less is better."""
    share: bool = False
    """Whether it lies between 0 and 1."""
    points: bool = False
    """Whether it lies between 0 and 100."""
    source: str = ""
    """The package that computes it, where that is not this one."""


def _table(*metrics: Named) -> dict[str, Named]:
    return {metric.name: metric for metric in metrics}


ALWAYS = _table(
    Named("loss", "nats for each answer token", lower_is_better=True),
    Named("perplexity", "e to the power of the loss", lower_is_better=True),
    Named(
        "bits_per_byte",
        "bits for each UTF-8 byte of the answers; comparable between tokenizers",
        lower_is_better=True,
    ),
    Named("token_accuracy", "answer tokens that are the model's first choice, given those before", share=True),
)
"""Measured on every held-out row, in one forward pass, without being asked for."""
METRICS = _table(
    Named("exact_match", "the answer is the expected text, but for space around it", share=True),
    Named("number", "the number behind ####, else the last one, is the expected one", share=True),
    Named("pattern", "what evaluate.pattern finds in the answer is what it finds in the row", share=True),
    Named("bleu", "BLEU of all answers together, 0 to 100", points=True, source="sacrebleu"),
    Named("chrf", "chrF2 of all answers together, 0 to 100", points=True, source="sacrebleu"),
    Named("rouge1", "F of the words in common (a-z and digits only)", share=True, source="rouge-score"),
    Named("rouge2", "F of the pairs of words in common (a-z and digits only)", share=True, source="rouge-score"),
    Named("rougeL", "F of the longest common run of words, gaps allowed", share=True, source="rouge-score"),
    Named("json_valid", "the answer, or its ```json fence, is a JSON object or list", share=True),
    Named("json_equal", "its JSON has the expected value, whatever the order of keys", share=True),
    Named("tool_name", "the answer calls the expected tools", share=True),
    Named("tool_arguments", "the answer calls the expected tools with the expected arguments", share=True),
    Named("code_parses", "the answer's Python parses; it is never run", share=True),
)
"""Measured on answers that the model writes, where `evaluate.metrics` names them."""
LOWER_IS_BETTER = frozenset(
    {name for name, metric in ALWAYS.items() if metric.lower_is_better}
    | {"brier_score", "byte_perplexity", "ter", "word_perplexity"}  # of lm-evaluation-harness
)
"""Metrics of which less is better, but for a user's own."""


def find(name: str, where: str = "evaluate.metrics: ") -> Named:
    """What is known of a metric. Raises `UnknownName`, and `UserError` where a user's own cannot be loaded."""
    if name in ALWAYS or name in METRICS:
        return ALWAYS.get(name) or METRICS[name]
    function = load(name, where)
    text = next(iter((getattr(function, "__doc__", None) or "").strip().splitlines()), "")
    return Named(name, text, bool(getattr(function, "lower_is_better", False)), source=package(name))


def load(name: str, where: str = "evaluate.metrics: ") -> Callable[[str, str], float | None]:
    """A user's own metric. Raises `UnknownName`, and `UserError` where it cannot be loaded."""
    if name not in plugins():
        raise UnknownName("metric", name, known(), where)
    try:
        function: Any = plugins()[name].load()
    except Exception as error:  # anything may go wrong in a module of the user's own
        said = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{where}metric '{name}' of {package(name)} cannot be loaded: {said}",
            f"its entry point is {plugins()[name].value}; try it in python",
        ) from error
    if not callable(function):
        hint = "name a function that takes answer and expected text and gives a number"
        raise UserError(f"{where}metric '{name}' of {package(name)} is not a function", hint)
    return function  # type: ignore[no-any-return]


def known() -> list[str]:
    """Every name that `evaluate.metrics` may hold, a user's own last."""
    return [*ALWAYS, *METRICS, *(name for name in plugins() if name not in ALWAYS and name not in METRICS)]


def exists(name: str) -> bool:
    """Whether there is a metric of this name."""
    return name in ALWAYS or name in METRICS or name in plugins()


def generated(name: str) -> bool:
    """Whether a metric needs answers that the model writes."""
    return name not in ALWAYS


def lower_is_better(name: str) -> bool:
    """Whether less of a metric is better; what is no metric of ours or the user's has more as better."""
    if name in ALWAYS or name in METRICS or name in LOWER_IS_BETTER:
        return name in LOWER_IS_BETTER
    return name in plugins() and find(name).lower_is_better


def is_share(name: str) -> bool:
    """Whether a metric lies between 0 and 1 and is shown in percent."""
    metric = ALWAYS.get(name) or METRICS.get(name)
    return metric is not None and metric.share


def ends(name: str) -> tuple[float, float]:
    """The least and the largest value that a metric can have; nothing is known of a user's own."""
    metric = ALWAYS.get(name) or METRICS.get(name)
    if metric is None:
        return -math.inf, math.inf
    return 0.0, 1.0 if metric.share else 100.0 if metric.points else math.inf


def package(name: str) -> str:
    """The package of a user's own metric, with its version."""
    distribution = plugins()[name].dist
    return f"{distribution.name} {distribution.version}" if distribution else plugins()[name].value


@cache
def plugins() -> "dict[str, EntryPoint]":
    """Metrics of installed packages by name, not loaded; of two with one name the first."""
    from importlib.metadata import entry_points

    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, point)
    return found
