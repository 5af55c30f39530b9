"""Where the answers of a conversation stand on its final render.

Only the final render counts, for templates of reasoning models write a turn otherwise once the conversation goes on.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import commonprefix

from sft_runner.data.row import Message, Row, Tool
from sft_runner.data.template.layout import Layout
from sft_runner.data.template.reasoning import parted
from sft_runner.data.template.rendering import Renderer
from sft_runner.data.template.special_tokens import SpecialTokens
from sft_runner.errors import DataError

_MARK = "qjxvkzw"
"""Put into an answer to see where the template writes it."""
_LEAD = 400
"""Most characters that a template writes between the generation prompt and an answer's own text."""
_OPENING = re.compile(r"\s*(?:<think>\s*)?")


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer on the rendered text."""

    index: int
    """Of its message."""
    start: int
    """The character behind its generation prompt."""
    stop: int
    """The character at which the token that ends it begins."""
    end: int
    """The character behind that token."""


@dataclass(frozen=True)
class TurnFinder:
    """Finds answers on the text of one template."""

    renderer: Renderer
    special: SpecialTokens
    layout: Layout

    def turns(self, row: Row, messages: Sequence[Message], tools: Sequence[Tool], text: str) -> list[Turn]:
        """The answers in order. Raises `DataError` where the text does not tell them from prompts."""
        prompt = self.renderer.text(messages[:-1], tools, prompt=True)
        if not text.startswith(prompt):
            raise _rewritten(row, prompt, text)
        answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        starts = [len(prompt)]
        if len(answers) > 1:
            earlier = self._by_header(messages, answers, text, len(prompt))
            if earlier is None:
                earlier = self._one_by_one(row, messages, tools, answers, text)
            starts = [*earlier, len(prompt)]
        ends = [*starts[1:], len(text)]
        return [
            self._turn(row, messages, index, text, start, end)
            for index, start, end in zip(answers, starts, ends, strict=True)
        ]

    def _by_header(self, messages: Sequence[Message], answers: Sequence[int], text: str, last: int) -> list[int] | None:
        """Starts of all answers but the last, where the header stands before each of them and nowhere else."""
        header = self.layout.header
        if not header or text.count(header) != len(answers):
            return None
        starts, position = [], 0
        for _ in answers:
            position = text.index(header, position) + len(header)
            starts.append(position)
        if starts[-1] > last:
            return None
        ends = [*starts[1:], len(text)]
        for index, start, end in zip(answers, starts, ends, strict=True):
            if text.find(parted(messages[index])[1], start, end) < 0:
                return None
        return starts[:-1]

    def _one_by_one(
        self, row: Row, messages: Sequence[Message], tools: Sequence[Tool], answers: Sequence[int], text: str
    ) -> list[int]:
        """The same by the prompt of each, or where the template writes that otherwise now, by marking the answer."""
        starts = [0]
        for index in answers[:-1]:
            prompt = self.renderer.text(messages[:index], tools, prompt=True)
            start = len(prompt) if text.startswith(prompt) else self._marked(row, messages, tools, index, text, prompt)
            if start < starts[-1]:
                raise _rewritten(row, prompt, text)
            starts.append(start)
        return starts[1:]

    def _marked(
        self, row: Row, messages: Sequence[Message], tools: Sequence[Tool], index: int, text: str, prompt: str
    ) -> int:
        """Where a mark in the answer comes out, less what the template writes between prompt and answer."""
        marked = self.renderer.text([*messages[:index], _mark(messages[index]), *messages[index + 1 :]], tools)
        place = marked.find(_MARK)
        if place < 0 or marked[:place] != text[:place]:
            raise _rewritten(row, prompt, text)
        backwards = prompt[::-1]
        common = [
            len(commonprefix([backwards, text[max(start - _LEAD, 0) : start][::-1]]))
            for start in range(place, max(place - _LEAD, 0), -1)
        ]
        return place - common.index(max(common))

    def _turn(self, row: Row, messages: Sequence[Message], index: int, text: str, start: int, end: int) -> Turn:
        """The answer up to the token that ends it; `end` is where the next one starts."""
        question, close = self.layout.question, self.layout.close
        asked = text.find(question, start, end) if question else -1
        end = asked if asked >= 0 else end  # the next question has an end of its own
        if stop := self.special.stop.search(text, start, end):
            return Turn(index, start, stop.start(), stop.end())
        place = text.rfind(close, start, end) if close and index < len(messages) - 1 else -1
        if place >= 0:
            return Turn(index, start, place, place + len(close))
        raise row.error(
            f"the chat template ends an answer with {text[start:end][-20:]!r}, which holds no token that ends "
            f"generation ({', '.join(self.special.stops) or 'none'}), so the model would not learn to stop",
            "take an instruct version of the model, whose template and eos_token belong together",
        )


def _mark(message: Message) -> Message:
    """The message with the mark in front of all that it says."""
    marked = {**message, "content": _marked_text(message["content"])}
    if "reasoning_content" in message:
        marked["reasoning_content"] = _marked_text(message["reasoning_content"])
    if calls := message.get("tool_calls"):
        function = {**calls[0]["function"], "name": _MARK}
        marked["tool_calls"] = [{**calls[0], "function": function}, *calls[1:]]
        if not message["content"]:
            marked["content"] = ""
    return marked


def _marked_text(text: str) -> str:
    opening = _OPENING.match(text)
    place = opening.end() if opening else 0
    return text[:place] + _MARK + text[place:]


def _rewritten(row: Row, part: str, text: str) -> DataError:
    """The prompt of an answer does not stand unchanged at the start of the whole conversation."""
    differs = len(commonprefix([part, text]))
    if part[differs:].lstrip().startswith("<think>") or part.rstrip().endswith("<think>"):
        hint = "give data.template a .jinja file whose answers keep the opening <think>, or take another model"
    else:
        hint = "try data.reasoning=drop, a .jinja file as data.template, or rows with one question and one answer"
    return row.error(
        f"the chat template asks for an answer otherwise than it writes it: a server sends "
        f"{part[max(differs - 15, 0) : differs + 30]!r}, training would show "
        f"{text[max(differs - 15, 0) : differs + 30]!r}",
        hint,
    )
