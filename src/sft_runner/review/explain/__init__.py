"""Where a value comes from, what it means, and what else is possible."""
