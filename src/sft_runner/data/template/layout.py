"""What a template writes around turns, learned once from a conversation of made-up words."""

from dataclasses import dataclass
from os.path import commonprefix

from sft_runner.data.template.rendering import Renderer
from sft_runner.data.template.special_tokens import SpecialTokens

_WORDS = ("qwfpgj", "zxcvdk", "arstdh", "neiomb")
"""Question, answer, question, answer: words that no template writes of its own."""


@dataclass(frozen=True)
class Layout:
    """Strings on the rendered text. Each holds a special token, which no row's own text can hold; else it is empty."""

    header: str = ""
    """From behind a question to where an answer starts: what earlier turns and the generation prompt have in common."""
    close: str = ""
    """The special token behind an earlier answer. With gpt-oss it is not one at which generation stops."""
    question: str = ""
    """From behind that token to the next question."""


def learned(renderer: Renderer, special: SpecialTokens) -> Layout:
    """The layout of a template; an empty one where the template does not take the made-up conversation."""
    roles = ("user", "assistant") * 2
    messages = [{"role": role, "content": word} for role, word in zip(roles, _WORDS, strict=True)]
    try:
        text, prompt = renderer.text(messages), renderer.text(messages[:1], prompt=True)
    except Exception:  # a template can raise anything; real rows will say what
        return Layout()
    places = [text.find(word) for word in _WORDS]
    if places != sorted(places) or places[0] < 0 or _WORDS[0] not in prompt:
        return Layout()
    before = text[places[0] + len(_WORDS[0]) : places[1]]
    between = text[places[1] + len(_WORDS[1]) : places[2]]
    header = commonprefix([before, prompt[prompt.find(_WORDS[0]) + len(_WORDS[0]) :]])
    divided = any(m.start() < len(header) < m.end() for m in special.any.finditer(before))
    close = special.any.search(between)
    question = between[close.end() :].strip() if close else ""
    return Layout(
        header if special.any.search(header) and not divided else "",
        close.group() if close else "",
        question if special.any.search(question) else "",
    )
