"""What a model says, apart from what it thinks first."""

import re

_THOUGHTS = re.compile(r"^\s*(?:<think>)?.*</think>", re.DOTALL)


def spoken(text: str) -> str:
    """The answer behind `</think>`, where there is one; models whose prompt ends with `<think>` write only that."""
    return _THOUGHTS.sub("", text, count=1)
