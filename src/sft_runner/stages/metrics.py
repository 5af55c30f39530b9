"""Names of the metrics that need generated answers; loss and perplexity are always measured."""

METRICS = ("exact_match",)
