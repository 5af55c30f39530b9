"""A chat template taken apart: what it writes around each turn, learned from chats of made-up words.

Ollama renders Go templates, which cannot do what Jinja can. Where every turn has the same text around it, wherever it
stands, the two can say the same; any other template is refused.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import commonprefix

from sft_runner.data.row import Message
from sft_runner.data.template import Renderer
from sft_runner.data.template.special_tokens import SpecialTokens
from sft_runner.errors import UserError

WORDS = ("qwfpgj", "zxcvdk", "arstdh", "neiomb", "luyhxz")
"""System, then question and answer by turns: words that no template writes of its own."""
NOWHERE, OWN, FIRST, LAST = "nowhere", "own", "first", "last"
"""Where the system text stands: in no place, in a turn of its own, in the first question, in the last one."""
REMEDY = "take ollama out of export, or train with a template whose turns all look alike, such as data.template=FILE"


@dataclass(frozen=True)
class Layout:
    """What stands around the turns."""

    begin: str
    """In front of everything where there is no system text."""
    question: str
    """In front of a question."""
    answer: str
    """Between a question and its answer."""
    answer_end: str
    """Behind an answer."""
    prompt: str
    """Behind the last question: it invites an answer."""
    system: str
    """Where the system text stands."""
    system_begin: str = ""
    """In front of it; of a turn of its own, with all that stands before that."""
    system_end: str = ""
    """Behind it."""
    trims: bool = False
    """Whether the template cuts off space around contents, which Go templates cannot."""


def learned(renderer: Renderer, special: SpecialTokens, bos: str) -> Layout:
    """The layout of a chat template; `bos` is what the tokenizer writes in front of every text by itself.

    Raises `UserError` where turns do not look alike.
    """
    question, answer, second = ({"role": role, "content": word} for role, word in zip(_ROLES, WORDS[1:], strict=False))
    try:
        once = _between(renderer.text([question], prompt=True), WORDS[1:2])
        twice = _between(renderer.text([question, answer, second], prompt=True), WORDS[1:4])
    except Exception as error:  # a template can raise anything
        raise _refused(f"it does not take a second question: {error}") from None
    if once[0] != twice[0] or once[1] != twice[3]:
        raise _refused("it writes the first turn otherwise when others follow")
    before, between, prompt = once[0], twice[2], once[1]
    turn = _turn(before, between, special)
    begin, answer_end = before[: len(before) - len(turn)], between[: len(between) - len(turn)]
    system = _system(renderer, begin, turn, prompt)
    where, first, last = system
    return Layout(
        begin.removeprefix(bos),
        turn,
        twice[1],
        answer_end,
        prompt,
        where,
        first.removeprefix(bos) if where == OWN else first,
        last,
        _trims(renderer, where != NOWHERE),
    )


_ROLES = ("user", "assistant", "user")


def _turn(before: str, between: str, special: SpecialTokens) -> str:
    """What stands in front of every question: where text before the first one and before a later one end alike.

    Neither half a token, nor the end of the turn before it.
    """
    turn = commonprefix([before[::-1], between[::-1]])[::-1]
    for text in (before, between):
        border = len(text) - len(turn)
        over = [mark.end() for mark in special.any.finditer(text) if mark.start() < border < mark.end()]
        turn = text[max(over, default=border) :]
    ended = re.match(rf"(?:{special.stop.pattern})\s*", turn)
    return turn[ended.end() :] if ended and special.any.search(turn, ended.end()) else turn


def _system(renderer: Renderer, begin: str, turn: str, prompt: str) -> tuple[str, str, str]:
    """Where the system text stands, and what stands before and behind it."""
    chat: list[Message] = [{"role": "system", "content": WORDS[0]}, {"role": "user", "content": WORDS[1]}]
    more = [{"role": "assistant", "content": WORDS[2]}, {"role": "user", "content": WORDS[3]}]
    try:
        text, longer = renderer.text(chat, prompt=True), renderer.text([*chat, *more], prompt=True)
    except Exception:  # it has no place for a system text, and says so
        return NOWHERE, "", ""
    if WORDS[0] not in text:
        return NOWHERE, "", ""
    first, last, behind = _between(text, WORDS[:2])
    if behind != prompt:
        raise _refused("a system text changes what stands behind the question")
    if last.endswith(turn) and turn and not first.startswith(begin + turn):
        return OWN, first, last[: len(last) - len(turn)]
    if first.startswith(begin + turn):
        where = FIRST if longer.find(WORDS[0]) < longer.find(WORDS[1]) else LAST
        return where, first[len(begin + turn) :], last
    raise _refused("a system text changes how the question begins")


def _trims(renderer: Renderer, system: bool) -> bool:
    roles = [*(["system"] if system else []), *_ROLES]
    turns = [{"role": role, "content": f" {word} "} for role, word in zip(roles, WORDS, strict=False)]
    text = renderer.text(turns, prompt=True)
    return not all(turn["content"] in text for turn in turns)


def _between(text: str, words: Sequence[str]) -> list[str]:
    """The text in front of, between and behind words. Raises `UserError` where one is not there once and in order."""
    found, place = [], 0
    for word in words:
        at = text.find(word, place)
        if at < 0 or text.count(word) > 1:
            raise _refused("it leaves out a turn, writes it twice, or in another order")
        found.append(text[place:at])
        place = at + len(word)
    return [*found, text[place:]]


def _refused(why: str) -> UserError:
    return UserError(f"export: ollama: the chat template cannot be said in Ollama's language: {why}", REMEDY)
