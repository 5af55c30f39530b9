"""Names of the metrics that need generated answers; loss and perplexity are always measured."""

METRICS = ("exact_match",)
LOWER_IS_BETTER = frozenset({"loss", "perplexity"})
"""Of all other metrics more is better."""
