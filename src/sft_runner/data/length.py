"""What becomes of an example that is longer than `data.max_length`: dropped, cut, divided, or an error.

A conversation is cut only behind a whole answer. Where not even the first answer ends in time, `truncate` cuts inside
it: the row then learns the beginning of an answer, and not to stop.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sft_runner.config.schema import Data
from sft_runner.data.row import Dropped, Example
from sft_runner.data.template import IGNORED, ChatTemplate, Encoded


@dataclass(frozen=True, slots=True)
class Fitted:
    """A row that is short enough."""

    encoded: Encoded
    """Its ids and labels."""
    truncated: bool = False
    """Whether something of the example was cut off."""


def fitted(example: Example, encoded: Encoded, data: Data, template: ChatTemplate) -> list[Fitted | Dropped]:
    """The rows that are made of one, each at most `data.max_length` long, or the reason why it is not used."""
    length = len(encoded.input_ids)
    if length <= data.max_length:
        return [Fitted(encoded)]
    if data.overlong == "error":
        raise example.row.error(
            f"{length} tokens are more than data.max_length={data.max_length}",
            "raise data.max_length, shorten the row, or set data.overlong to drop, truncate or split",
        )
    if data.overlong == "truncate":
        return [_truncated(example, encoded, data.max_length, template)]
    if data.overlong == "split":
        return list(_split(example, encoded, data.max_length, template))
    return [Dropped.OVERLONG]


def _truncated(example: Example, encoded: Encoded, most: int, template: ChatTemplate) -> Fitted | Dropped:
    """The turns up to the last answer that ends in time; else the tokens up to the limit."""
    turns = _turns_that_fit(example, encoded, most)
    if turns:
        (shorter,) = template.encode([_part(example, 0, turns)])
        if not isinstance(shorter, Dropped) and len(shorter[-1].input_ids) <= most:
            return Fitted(shorter[-1], truncated=True)
    labels = encoded.labels[:most]
    trained = most - labels.count(IGNORED)
    if not trained or encoded.prompt_length >= most:
        return Dropped.OVERLONG
    return Fitted(replace(encoded, input_ids=encoded.input_ids[:most], labels=labels, trained=trained, ends=[]), True)


def _split(example: Example, encoded: Encoded, most: int, template: ChatTemplate) -> Iterator[Fitted | Dropped]:
    """Parts of whole exchanges, each with the system message; a plain text in windows of the full length."""
    if not example.messages:
        yield from _windows(example, encoded, most)
        return
    while len(encoded.input_ids) > most:
        turns = _turns_that_fit(example, encoded, most)
        if not turns:
            first = _first_exchange(example)
            yield Dropped.OVERLONG
            if first == len(example.messages):
                return
            turns = first
        else:
            (part,) = template.encode([_part(example, 0, turns)])
            fits = not isinstance(part, Dropped) and len(part[-1].input_ids) <= most
            yield Fitted(part[-1]) if not isinstance(part, Dropped) and fits else Dropped.OVERLONG
        example = _part(example, turns, len(example.messages))
        (rest,) = template.encode([example])
        if isinstance(rest, Dropped):
            yield rest
            return
        encoded = rest[-1]
    yield Fitted(encoded)


def _windows(example: Example, encoded: Encoded, most: int) -> Iterator[Fitted | Dropped]:
    if example.fill:  # half a hole teaches nothing
        yield Dropped.OVERLONG
        return
    for start in range(0, len(encoded.input_ids), most):
        labels = encoded.labels[start : start + most]
        trained = len(labels) - labels.count(IGNORED)
        ids = encoded.input_ids[start : start + most]
        yield Fitted(replace(encoded, input_ids=ids, labels=labels, trained=trained))


def _turns_that_fit(example: Example, encoded: Encoded, most: int) -> int:
    """How many messages may stay: as many as fit, up to an answer behind which a user speaks."""
    messages = example.messages
    fitting = (turns for turns, tokens in encoded.ends if tokens <= most and turns < len(messages))
    return max((turns for turns in fitting if messages[turns]["role"] == "user"), default=0)


def _first_exchange(example: Example) -> int:
    """The messages up to the first answer behind which a user speaks."""
    roles = [message["role"] for message in example.messages]
    ends = (i for i in range(1, len(roles)) if roles[i - 1 : i + 1] == ["assistant", "user"])
    return next(ends, len(roles))


def _part(example: Example, start: int, end: int) -> Example:
    """Some of the messages as a conversation of their own, with the system message in front."""
    messages = example.messages
    system = messages[:1] if start and messages[0]["role"] == "system" else []
    shift = len(system) - start
    return replace(
        example,
        messages=[*system, *messages[start:end]],
        untrained=frozenset(i + shift for i in example.untrained if start <= i < end),
        completion=max(min(example.completion + shift, end + shift - 1), 0),
    )
