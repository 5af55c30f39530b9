"""A metric is a function of sums over rows: each row gives a few numbers, and the metric follows from their sum.

So a score is that of all rows together, BLEU too, and a resample of the rows is scored by adding their numbers up
otherwise (`intervals.py`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sft_runner.errors import StageFailed, UserError
from sft_runner.evaluation import names
from sft_runner.evaluation.metrics import code, json_value, number, tool_call
from sft_runner.evaluation.metrics.overlap import bleu, chrf, rouge

if TYPE_CHECKING:
    from numpy.typing import NDArray

Numbers = tuple[float, ...]
"""What a row adds to the sums."""
Compare = Callable[[str, str], float | bool | None]
"""From what the model's answer and the expected text say (`thoughts.spoken`) to a number; None where the metric means
nothing for the row."""


@dataclass(frozen=True)
class Metric:
    """How a metric is computed from answers."""

    name: str
    """As `evaluate.metrics` has it."""
    width: int
    """How many numbers a row gives."""
    statistics: Callable[[str, str], Numbers | None]
    """What a row's answer and expected text add to the sums; None where the metric means nothing for the row, which
    follows from the expected text alone, so that base and tuned model are scored on the same rows."""
    value: Callable[["NDArray[Any]"], float]
    """The metric from sums `[width]`."""
    of_row: Callable[["NDArray[Any]"], float]
    """The same of one row, for people who look at it."""


def ratio(sums: "NDArray[Any]") -> float:
    """A mean, from a sum and what it is divided by; not a number where that is 0."""
    return float(sums[0] / sums[1]) if sums[1] else math.nan


def perplexity(sums: "NDArray[Any]") -> float:
    """e to the power of nats by token, at most e^700: a float ends at e^709."""
    return math.exp(min(ratio(sums), 700.0))


def bits(sums: "NDArray[Any]") -> float:
    """Bits by byte, from nats and bytes."""
    return ratio(sums) / math.log(2)


ALWAYS: Mapping[str, Callable[["NDArray[Any]"], float]] = {
    "loss": ratio,
    "perplexity": perplexity,
    "bits_per_byte": bits,
    "token_accuracy": ratio,
}
"""Those of a forward pass, from `(nats, tokens)`, `(nats, tokens)`, `(nats, bytes)` and `(right tokens, tokens)`."""


def mean(name: str, compare: Compare) -> Metric:
    """The metric that is the mean of a number of each row."""

    def statistics(answer: str, expected: str) -> Numbers | None:
        found = compare(answer, expected)
        return None if found is None else (float(found), 1.0)

    return Metric(name, 2, statistics, ratio, ratio)


def metrics_of(asked: Sequence[str], pattern: str | None = None) -> list[Metric]:
    """The metrics of answers by their names; those that are always measured are left out.

    `pattern` is the expression of the metric of that name. Raises `UnknownName`, and `UserError` for what cannot be
    computed as it is set.
    """
    return [_metric(name, pattern) for name in dict.fromkeys(asked) if names.generated(name)]


def exact_match(answer: str, expected: str) -> bool:
    """Whether both are the same but for space around them."""
    return answer.strip() == expected.strip()


_PLAIN: Mapping[str, Compare] = {
    "exact_match": exact_match,
    "number": number.equal,
    "json_valid": json_value.valid,
    "json_equal": json_value.equal,
    "tool_name": tool_call.names_equal,
    "tool_arguments": tool_call.calls_equal,
    "code_parses": code.parses,
}


def _metric(name: str, pattern: str | None) -> Metric:
    if name == "pattern":
        if pattern is None:
            hint = r"give a regular expression, such as 'evaluate.pattern=Answer: (\w+)'"
            raise UserError("evaluate.metrics: pattern needs evaluate.pattern", hint)
        return mean(name, number.Pattern(pattern).equal)
    if name == "bleu":
        return Metric(name, *bleu())
    if name == "chrf":
        return Metric(name, *chrf())
    if name.startswith("rouge") and name in names.METRICS:
        return mean(name, rouge(name))
    return mean(name, _PLAIN[name] if name in _PLAIN else _own(name))


def _own(name: str) -> Compare:
    """A metric that an installed package registers."""
    function = names.load(name)

    def compare(answer: str, expected: str) -> float | None:
        try:
            found = function(answer, expected)
            value = None if found is None else float(found)
        except Exception as error:  # the user's own code
            shown = expected if len(expected) < 60 else f"{expected[:60]}..."
            raise StageFailed(
                f"evaluate.metrics: '{name}' of {names.package(name)} failed on the row that expects {shown!r}: "
                f"{type(error).__name__}: {error}",
                "mend the function, or leave the metric out of evaluate.metrics",
            ) from error
        if value is not None and not math.isfinite(value):
            raise StageFailed(
                f"evaluate.metrics: '{name}' of {names.package(name)} gives {value}, which is no number",
                "return None for a row for which the metric means nothing",
            )
        return value

    return compare
