"""Where the settings of a command were said, for messages."""

from collections.abc import Callable, Sequence

from sft_runner.config.layers import Layers, layers
from sft_runner.config.run import Run
from sft_runner.errors import UserError

REASON = 40
"""Characters of a reason that still goes into a line."""


def place_of(run: Run, words: Sequence[str]) -> Callable[[str], str]:
    """Tells of a setting where its value comes from, such as `recipes/x.yaml, line 9`; empty where nobody can tell.

    Nothing is composed before it is first asked.
    """
    reasons = {decision.key: decision.reason for decision in run.decisions}
    known: list[Layers] = []

    def place(key: str) -> str:
        if key in reasons:  # the value was left open
            return reasons[key] if len(reasons[key]) <= REASON else ""
        if not known:
            try:
                known.append(layers(words))
            except UserError:
                return ""
        found = known[0].place(key)
        return str(found) if found else ""

    return place
