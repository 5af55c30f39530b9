"""A resolved run as YAML, every line with its origin."""
