"""What becomes of an example that is longer than `data.max_length`: dropped, cut, divided, or an error.

A conversation is cut only behind a whole answer, and a cut part learns no more than the whole row would: with
`data.train_on=last` only its own last answer. Where not even the first answer ends in time, `truncate` cuts inside it:
the row then learns the beginning of an answer, and not to stop.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sft_runner.config.schema import Data
from sft_runner.data.row import Dropped, Example
from sft_runner.data.template import IGNORED, ChatTemplate, Encoded

Encodings = list[Encoded] | Dropped
"""What a template makes of an example."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A row that is short enough."""

    encoded: Encoded
    """Its ids and labels."""
    truncated: bool = False
    """Whether something of the example was cut off."""


def fitted(example: Example, encoded: Sequence[Encoded], data: Data, template: ChatTemplate) -> list[Fitted | Dropped]:
    """The rows that are made of an example, each at most `data.max_length` long, or the reasons why they are not used.

    Raises `DataError` with `data.overlong=error`.
    """
    longest = max(len(one.input_ids) for one in encoded)
    if longest <= data.max_length:
        return [Fitted(one) for one in encoded]
    if data.overlong == "error":
        raise example.row.error(
            f"{longest} tokens are more than data.max_length={data.max_length}",
            "raise data.max_length, shorten the row, or set data.overlong to drop, truncate or split",
        )
    if data.overlong == "split":
        return list(_Cutter(example, data, template).parts() if example.messages else _windows(example, encoded, data))
    if data.overlong == "truncate" and len(encoded) == 1:
        return [_Cutter(example, data, template).beginning(encoded[0])]
    return [Fitted(one) if len(one.input_ids) <= data.max_length else Dropped.OVERLONG for one in encoded]


class _Cutter:
    """Cuts one conversation."""

    def __init__(self, example: Example, data: Data, template: ChatTemplate) -> None:
        last = len(example.messages) - 1
        before = {"last": last, "completion": example.completion}.get(data.train_on, 0)
        self.example = replace(example, untrained=example.untrained | frozenset(range(before)), completion=0)
        self.most, self.template = data.max_length, template

    def beginning(self, encoded: Encoded) -> Fitted | Dropped:
        """As many whole answers as fit; else the tokens up to the limit."""
        found = self._longest(self.example, [encoded])
        if found:
            parts = found[1]
            return Dropped.OVERLONG if isinstance(parts, Dropped) else Fitted(parts[-1], truncated=True)
        first = min(_boundaries(self.example), default=0)
        if first:
            parts = self._encoded(_part(self.example, 0, first))
            if isinstance(parts, Dropped):
                return Dropped.OVERLONG
            encoded = parts[-1]
        labels = encoded.labels[: self.most]
        trained = self.most - labels.count(IGNORED)
        if not trained or encoded.prompt_length >= self.most:
            return Dropped.OVERLONG
        ids = encoded.input_ids[: self.most]
        return Fitted(replace(encoded, input_ids=ids, labels=labels, trained=trained, ends=[]), truncated=True)

    def parts(self) -> Iterator[Fitted | Dropped]:
        """Whole exchanges, as many to a part as fit, each part with the system message."""
        rest = self.example
        while True:
            encoded = self._encoded(rest)
            if isinstance(encoded, Dropped):
                yield encoded
                return
            if self._fits(encoded):
                yield from map(Fitted, encoded)
                return
            found = self._longest(rest, encoded)
            if found is None:
                yield Dropped.OVERLONG
            elif isinstance(found[1], Dropped):
                yield found[1]
            else:
                yield from map(Fitted, found[1])
            turns = found[0] if found else min(_boundaries(rest), default=len(rest.messages))
            if turns == len(rest.messages):
                return
            rest = _part(rest, turns, len(rest.messages))

    def _longest(self, example: Example, encoded: Sequence[Encoded]) -> tuple[int, Encodings] | None:
        """The most messages up to a boundary that fit, and what they are as tokens. A part may be longer than the same
        messages inside the whole, because templates keep the thoughts of a last answer."""
        tokens = dict(encoded[-1].ends)
        for turns in sorted(_boundaries(example), reverse=True):
            if tokens.get(turns, 0) <= self.most:
                part = self._encoded(_part(example, 0, turns))
                if isinstance(part, Dropped) or self._fits(part):
                    return turns, part
        return None

    def _encoded(self, example: Example) -> Encodings:
        (encoded,) = self.template.encode([example])
        return encoded

    def _fits(self, encoded: Sequence[Encoded]) -> bool:
        return all(len(one.input_ids) <= self.most for one in encoded)


def _boundaries(example: Example) -> list[int]:
    """Numbers of messages behind which an answer has ended and a user speaks."""
    roles = [message["role"] for message in example.messages]
    return [i for i in range(1, len(roles)) if roles[i - 1 : i + 1] == ["assistant", "user"]]


def _part(example: Example, start: int, end: int) -> Example:
    """Some of the messages as a conversation of their own, with the system message in front."""
    messages = example.messages
    system = messages[:1] if start and messages[0]["role"] == "system" else []
    shift = len(system) - start
    return replace(
        example,
        messages=[*system, *messages[start:end]],
        untrained=frozenset(i + shift for i in example.untrained if start <= i < end),
    )


def _windows(example: Example, encoded: Sequence[Encoded], data: Data) -> Iterator[Fitted | Dropped]:
    """A plain text in rows of the full length; no row has a single token, which nothing would predict."""
    (whole,) = encoded
    if example.fill:  # half a hole teaches nothing
        yield Dropped.OVERLONG
        return
    count, start = len(whole.input_ids), 0
    while start < count:
        end = min(start + data.max_length, count)
        end -= count - end == 1
        labels, ids = whole.labels[start:end], whole.input_ids[start:end]
        yield Fitted(replace(whole, input_ids=ids, labels=labels, trained=len(labels) - labels.count(IGNORED)))
        start = end
