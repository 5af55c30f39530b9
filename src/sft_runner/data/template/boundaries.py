"""Where answers that were found on the text begin and end among its tokens."""

from typing import TYPE_CHECKING, Any

from sft_runner.data.row import Row
from sft_runner.data.template.layout import Layout
from sft_runner.data.template.special_tokens import SpecialTokens
from sft_runner.data.template.turns import Turn

if TYPE_CHECKING:
    from tokenizers import Encoding

_REMEMBERED = 1000
"""Ends of prompts whose ids are kept. Most templates have one."""


class Boundaries:
    """The borders of answers in the ids of one tokenizer."""

    def __init__(self, tokenizer: Any, special: SpecialTokens, layout: Layout) -> None:
        self._tokenizer, self._special = tokenizer, special
        self._opener = (special.any.findall(layout.header) or [""])[-1]
        self._tails: dict[str, list[int]] = {}

    def tokens(
        self, row: Row, text: str, turn: Turn, encoding: "Encoding", ids: list[int], last: bool
    ) -> tuple[int, int] | None:
        """The first token of an answer, and the one behind its end.

        None where white space at its start is one token with the prompt's end, so that a server's prompt has other
        ids. Raises `DataError` where anything else is.
        """
        first = _first_token(turn, encoding)
        if first is not None and last:
            alone = self._tail(text, turn.start)
            first = first if ids[max(first - len(alone), 0) : first] == alone else None
        if first is not None:
            return first, self._behind_end(row, text, turn, encoding, ids)
        start = turn.start
        if text[start : start + 1].isspace():
            return None
        raise row.error(
            "the model's tokenizer does not part the prompt from the answer: "
            f"{text[max(start - 20, 0) : start]!r} and {text[start : start + 20]!r} "
            "are other tokens together than alone",
            "take another model, or another chat template with data.template",
        )

    def _tail(self, text: str, end: int) -> list[int]:
        """The ids of a prompt from a special token on; what stands before it has the same ids in any case."""
        opening = text.rfind(self._opener, 0, end) if self._opener else 0
        tail = text[max(opening, 0) : end]
        ids = self._tails.get(tail)
        if ids is None:
            ids = self._tokenizer.encode(tail, add_special_tokens=False).ids
            if len(self._tails) < _REMEMBERED:
                self._tails[tail] = ids
        return ids

    def _behind_end(self, row: Row, text: str, turn: Turn, encoding: "Encoding", ids: list[int]) -> int:
        token = encoding.char_to_token(turn.stop)
        name = text[turn.stop : turn.end]
        if token is None or ids[token] != self._special.ids[name]:
            raise row.error(
                f"the model's tokenizer does not read {name} at the end of an answer as one token",
                "take an instruct version of the model, whose template and tokenizer belong together",
            )
        return token + 1


def _first_token(turn: Turn, encoding: "Encoding") -> int | None:
    """The token with which an answer begins; None where that token holds some of the prompt too."""
    for position in range(turn.start, turn.end):
        token = encoding.char_to_token(position)
        if token is not None:  # some tokenizers leave leading white space out of a token's characters
            span = encoding.token_to_chars(token)
            return token if span and span[0] >= turn.start else None
    return None
