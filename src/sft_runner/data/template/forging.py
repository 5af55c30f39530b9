"""Whether a row's own text holds a token that marks turns: it could open a turn, or end one."""

import json

from sft_runner.data.row import Example
from sft_runner.data.template.fill import FillTokens
from sft_runner.data.template.reasoning import parted
from sft_runner.data.template.special_tokens import SpecialTokens


def forged(example: Example, special: SpecialTokens, fill_tokens: FillTokens | None) -> bool:
    """Whether the example holds such a token, or code to fill in one that parts code."""
    search = special.any.search
    for message in example.messages:
        if search(message["content"]) and any(map(search, parted(message))):
            return True
        if len(message) > 2 and any(search(str(value)) for key, value in message.items() if key != "content"):
            return True
    if example.tools and search(json.dumps(example.tools, ensure_ascii=False)):
        return True
    if fill := example.fill:
        names = fill_tokens.names if fill_tokens else ()
        pieces = (fill.prefix, fill.middle, fill.suffix)
        return any(search(piece) or any(name in piece for name in names) for piece in pieces)
    return bool(example.text and search(example.text))
