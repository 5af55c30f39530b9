"""The part of the schema that is about proofs and scores: what is merged, how it is measured, what it must reach."""

from dataclasses import dataclass
from typing import Any

from sft_runner.config.schema_data import without_paths
from sft_runner.config.setting import setting
from sft_runner.evaluation import names

SET_LIMIT = 200
"""Rows of a set that are read where it says nothing else; `limit: null` takes all."""


def _generated(metrics: list[str]) -> list[str]:
    """What of `evaluate.metrics` counts: each once, in whatever order, and none that is measured anyway."""
    return sorted({name for name in metrics if names.generated(name)})


def _sets(sets: dict[str, Any]) -> dict[str, Any]:
    """What of `evaluate.sets` counts: of each all but its path, and its limit where it is another than the usual."""
    return {
        name: {key: value for key, value in entry.items() if (key, value) != ("limit", SET_LIMIT)}
        if isinstance(entry, dict)
        else entry
        for name, entry in without_paths(sets).items()
    }


@dataclass
class Merge:
    """Adapter into base, and the proof that what was written is what was trained."""

    base: str = setting("auto", neutral="auto", choices=("auto", "original", "quantized"))
    """Where training saw a quantized base: merge into its `original` weights, into the `quantized` ones as training saw
    them, or with `auto` into those whose loss on held-out rows is lower."""
    verify_rows: int = setting(8, at_least=1)
    """Held-out rows on which merged and adapter logits are compared."""
    tolerance: float | None = setting(None, neutral=None, at_least=0)
    """Largest logit difference allowed, relative to the largest logit; open: 1e-4 in float32, 0.2 in 16 bits."""


@dataclass
class Evaluate:
    """How base and tuned model are scored, and what the tuned one must reach."""

    limit: int | None = setting(200, at_least=1)
    """Score at most this many held-out rows; each source, and each reason to hold rows out, has its share."""
    metrics: list[str] = setting(["exact_match"], counted=_generated)
    """Metrics of generated answers, besides those of the loss; `sft-runner metrics` lists them."""
    max_new_tokens: int = setting(256, at_least=1)
    """Longest generated answer, in tokens."""
    pattern: str | None = setting(None, neutral=None)
    """A regular expression for the metric `pattern`: what its first group finds in answer and row must be equal."""
    headline: str = setting("", counts=False)
    """The metric that ranks a sweep; open: the first of `metrics`, else `loss`."""
    engine: str = setting("auto", neutral="transformers", choices=("auto", "transformers", "vllm"))
    """What generates: `vllm`, `transformers`, or with `auto` vLLM where it is installed and can do what is asked."""
    sets: dict[str, Any] = setting({}, neutral={}, counted=_sets)
    """Other rows to score, never trained on: `{NAME: {path: ..., format: ..., limit: 200}}`, in the words of
    `data.sources`. They show what was forgotten."""
    gates: dict[str, Any] = setting({}, counts=False)
    """What the tuned model must reach to be served: `{exact_match: {min: 0.6, min_gain: 0.05}}`, and on another set
    `{NAME: {perplexity: {max_ratio: 1.02}}}`. Limits: min, max, min_gain, max_ratio."""
    benchmarks: list[str] = setting([], neutral=[])
    """Tasks of lm-evaluation-harness (the extra `benchmarks`), for base and tuned model."""
    benchmarks_path: str | None = setting(None, neutral=None)
    """A folder with task files of your own for it."""
    benchmarks_limit: int | None = setting(None, neutral=None, at_least=1)
    """Only the first documents of each task."""


def without_use(asked: Evaluate) -> list[str]:
    """The settings of it that change no score, as the others are."""
    found = [] if "pattern" in asked.metrics else ["pattern"]
    found += [] if _generated(asked.metrics) else ["max_new_tokens", "engine"]
    found += [] if asked.benchmarks else ["benchmarks_limit"]
    return [f"evaluate.{name}" for name in found]
