"""What a template writes around turns, learned once from a conversation of made-up words."""

from dataclasses import dataclass
from os.path import commonprefix

from sft_runner.data.row import Message
from sft_runner.data.template.rendering import Renderer
from sft_runner.data.template.special_tokens import SpecialTokens

_WORDS = ("qwfpgj", "zxcvdk", "arstdh", "neiomb")
"""Question, answer, question, answer: words that no template writes of its own."""
_THOUGHT = "vbkhjl"
_MADE_UP: list[Message] = [
    {"role": role, "content": word} for role, word in zip(("user", "assistant") * 2, _WORDS, strict=True)
]


@dataclass(frozen=True)
class Layout:
    """Strings on the rendered text. Each holds a token that no row's own text can hold; else it is empty."""

    header: str = ""
    """From behind a question to where an answer starts: what earlier turns and the generation prompt have in common."""
    opening: str = ""
    """What the generation prompt goes on with, and earlier turns only at times. That string may hold anything."""
    close: str = ""
    """The token behind an earlier answer: the first one at which generation stops, else (gpt-oss) the first one."""
    question: str = ""
    """From behind that token to the next question."""
    ending: str = ""
    """What is missing behind the last answer: GLM ends it only by the token of the role that speaks next."""
    call_ending: str = ""
    """The same behind calls, after which a tool speaks."""
    reasoning: bool = False
    """Whether the template has a place of its own for reasoning. That string may hold anything."""


def sample(renderer: Renderer) -> str:
    """The made-up conversation as the template writes it; empty where the template does not take it."""
    try:
        return renderer.text(_MADE_UP)
    except Exception:  # a template can raise anything; real rows will say what
        return ""


def learned(renderer: Renderer, special: SpecialTokens) -> Layout:
    """The layout of a template; only whether it has a place for reasoning where it takes no second question."""
    reasoning, text = _writes_reasoning(renderer), sample(renderer)
    places = [text.find(word) for word in _WORDS]
    if places != sorted(places) or places[0] < 0:
        return Layout(reasoning=reasoning)
    prompt = renderer.text(_MADE_UP[:1], prompt=True)
    if _WORDS[0] not in prompt:
        return Layout(reasoning=reasoning)
    behind = [place + len(word) for place, word in zip(places, _WORDS, strict=True)]
    before, between, after = text[behind[0] : places[1]], text[behind[1] : places[2]], text[behind[3] :]
    asked = prompt[prompt.find(_WORDS[0]) + len(_WORDS[0]) :]
    header = before[: special.border(before, len(commonprefix([before, asked])))]
    close = special.stop.search(between) or special.any.search(between)
    question = between[close.end() :].strip() if close else ""
    ended = close is None or close.group() not in special.stops or special.any.search(after)
    return Layout(
        header if special.any.search(header) else "",
        asked[len(header) :],
        close.group() if close else "",
        question if special.any.search(question) else "",
        "" if ended or close is None else between[: close.end()],
        "" if ended else _behind_call(renderer, special),
        reasoning,
    )


def _behind_call(renderer: Renderer, special: SpecialTokens) -> str:
    """The token at which generation stops right behind a call; empty where another text stands there."""
    function = {"name": _WORDS[1], "arguments": {_WORDS[2]: _WORDS[3]}}
    call: Message = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "call00001", "type": "function", "function": function}],
    }
    result: Message = {"role": "tool", "content": _THOUGHT, "tool_call_id": "call00001", "name": _WORDS[1]}
    try:
        called = renderer.text([_MADE_UP[0], call])
        answered = renderer.text([_MADE_UP[0], call, result])
    except Exception:
        return ""
    stop = special.stop.match(answered, len(called)) if answered.startswith(called) else None
    return stop.group() if stop else ""


def _writes_reasoning(renderer: Renderer) -> bool:
    question, answer = _MADE_UP[:2]
    try:
        return _THOUGHT in renderer.text([question, {**answer, "reasoning_content": _THOUGHT}])
    except Exception:
        return False
