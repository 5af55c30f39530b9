"""Which tokens of a written conversation carry loss."""

from typing import TYPE_CHECKING

from sft_runner.data.row import Dropped
from sft_runner.data.template.boundaries import Boundaries
from sft_runner.data.template.encoded import IGNORED, Encoded
from sft_runner.data.template.turns import Turn
from sft_runner.data.template.writing import Written

if TYPE_CHECKING:
    from tokenizers import Encoding


def labelled(one: Written, encoding: "Encoding", boundaries: Boundaries, train_on: str) -> Encoded | Dropped:
    """Ids and labels of a conversation, or why it cannot be used."""
    ids = encoding.ids
    everything = train_on == "all" and not one.only_last
    labels = list(ids) if everything else [IGNORED] * len(ids)
    trained = len(ids) if everything else 0
    ends, first, drifted = [], 0, False
    for turn in one.turns:
        last = turn is one.turns[-1]
        place = boundaries.tokens(one.example.row, one.text, turn, encoding, ids, last)
        if place is None:
            return Dropped.JOINED
        first, end = place
        ends.append((turn.index + 1, end))
        trains = _trains(one, turn, last, train_on)
        drifted = drifted or (trains and turn.index in one.drifted)
        if trains and not everything:
            labels[first:end] = ids[first:end]
            trained += end - first
        elif everything and not trains:
            labels[first:end] = [IGNORED] * (end - first)
            trained -= end - first
    return Encoded(ids, labels, first, trained, one.messages, ends, drifted) if trained else Dropped.NOTHING_TRAINED


def _trains(one: Written, turn: Turn, last: bool, train_on: str) -> bool:
    """Whether an answer carries loss."""
    if turn.index in one.example.untrained or (one.only_last and not last):
        return False
    if train_on == "last":
        return turn.index == len(one.example.messages) - 1
    return train_on != "completion" or turn.index >= one.example.completion
