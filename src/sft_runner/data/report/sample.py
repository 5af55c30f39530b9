"""A real row on its way: as it was read, as messages, and as tokens with the trained ones told apart."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby, pairwise
from typing import TYPE_CHECKING, Any

from sft_runner.data.row import Dropped, Example, Row
from sft_runner.data.template import IGNORED

if TYPE_CHECKING:
    from sft_runner.data.template import Encoded

_UNREADABLE = "\ufffd"
"""What a tokenizer decodes the bytes of half a character to."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """One row and what became of it. A row that makes several examples is sampled once for each."""

    row: Row
    """As it was read."""
    example: Example | None = None
    """As messages; None where it could not become any."""
    encoded: "Encoded | None" = None
    """As token ids; None where it is dropped before."""
    dropped: Dropped | None = None
    """Why it is not used; None where it is."""
    spans: list[tuple[str, bool]] = field(default_factory=list)
    """The text of its tokens in pieces, each with whether it is trained: see `spans`."""
    special: list[str] = field(default_factory=list)
    """Special tokens that stand in it: see `special`."""

    def to_json(self) -> dict[str, Any]:
        """An entry of `samples` in `report.json`; only for rows that are encoded."""
        assert self.encoded is not None
        return {
            "source": self.row.source,
            "tokens": len(self.encoded.input_ids),
            "trained": self.encoded.trained,
            "spans": [list(span) for span in self.spans],
            "special": self.special,
        }


def spans(tokenizer: Any, ids: Sequence[int], labels: Sequence[int]) -> list[tuple[str, bool]]:
    """The decoded text of `ids` in pieces, each of consecutive tokens that are all trained or all not.

    The pieces joined are the decoded whole. A character whose bytes lie on both sides of a border counts as trained.
    """
    whole = _decode(tokenizer, ids)
    borders, kinds = [0], []
    for kind, group in groupby(labels, key=lambda label: label != IGNORED):
        borders.append(borders[-1] + sum(1 for _ in group))
        kinds.append(kind)
    pieces = [_decode(tokenizer, ids[start:end]) for start, end in pairwise(borders)]
    if "".join(pieces) != whole:  # a character is divided, or the tokenizer drops a space in front of each text
        cuts = [_cut(tokenizer, ids[:end], whole, kind) for end, kind in zip(borders[1:], kinds, strict=True)]
        cuts = [0, *accumulate(cuts[:-1], max), len(whole)]
        pieces = [whole[start:end] for start, end in pairwise(cuts)]
    return [(piece, kind) for piece, kind in zip(pieces, kinds, strict=True) if piece]


def special(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """The special tokens among `ids`, as they stand in the decoded text, each once."""
    added = tokenizer.added_tokens_decoder
    known = set(tokenizer.all_special_ids) | {number for number, token in added.items() if token.special}
    return [_decode(tokenizer, [number]) for number in dict.fromkeys(ids) if number in known]


def _cut(tokenizer: Any, ids: Sequence[int], whole: str, trained: bool) -> int:
    """How many characters of `whole` the first `ids` stand for; half a last one counts if `trained`."""
    text = _decode(tokenizer, ids)
    if whole.startswith(text):
        return len(text)
    same = next((i for i, (a, b) in enumerate(zip(text, whole, strict=False)) if a != b), min(len(text), len(whole)))
    return same + (trained and text[same:].startswith(_UNREADABLE))


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
