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

    def last(self, row: Row, messages: Sequence[Message], tools: Sequence[Tool], text: str) -> tuple[str, list[Turn]]:
        """The last answer behind the prompt that a server sends, and where it stands on that text.

        Where the whole conversation begins otherwise, the answer is taken out of it and put behind that prompt. Raises
        `DataError` where it cannot be told from its prompt.
        """
        prompt = self.renderer.text(messages[:-1], tools, prompt=True)
        index = len(messages) - 1
        if not text.startswith(prompt):
            text = prompt + text[self._marked(row, messages, tools, index, text, prompt, whole=True) :]
        return text, [self._turn(row, messages, index, text, len(prompt), len(text))]

    def _by_header(self, messages: Sequence[Message], answers: Sequence[int], text: str, last: int) -> list[int] | None:
        """Starts of all answers but the last, where the header stands before each of them and nowhere else."""
        header = self.layout.header
        if not header or text.count(header) != len(answers):
            return None
        starts, position = [], 0
        for _ in answers:
            position = text.index(header, position) + len(header)
            opened = self.layout.opening and text.startswith(self.layout.opening, position)
            starts.append(position + len(self.layout.opening) if opened else position)
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
        self,
        row: Row,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        index: int,
        text: str,
        prompt: str,
        whole: bool = False,
    ) -> int:
        """Where an answer starts: behind what follows the message before it, there as in its own prompt.

        Marks at the end of that message and at the start of the answer show between which characters this is. Raises
        `DataError` where nothing there tells a turn from text, or with `whole` where it is not all that the prompt has.
        """
        asked = [*messages[: max(index - 1, 0)], *map(_mark_end, messages[max(index - 1, 0) : index])]
        said = self._place_of_mark(
            text, [*messages[:index], _mark_start(messages[index]), *messages[index + 1 :]], tools
        )
        floor = self._place_of_mark(text, [*asked, *messages[index:]], tools)
        _, found, header = self.renderer.text(asked, tools, prompt=True).partition(_MARK)
        if not found or not 0 <= floor <= said:
            raise _rewritten(row, prompt, text)
        common = len(commonprefix([text[floor:said], header]))
        if common < len(header):
            common = self.special.border(header, common)
            if whole or not self.special.any.search(header, 0, common):
                raise _rewritten(row, prompt, text)
        return floor + common

    def _place_of_mark(self, text: str, messages: Sequence[Message], tools: Sequence[Tool]) -> int:
        """Where the mark in these messages stands in the text without it; -1 if it changes more than its place."""
        before, found, _ = self.renderer.text(messages, tools).partition(_MARK)
        return len(before) if found and text.startswith(before) else -1

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


def _mark_start(message: Message) -> Message:
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


def _mark_end(message: Message) -> Message:
    """The message with the mark behind all that it says."""
    content = message["content"].rstrip()
    return {**message, "content": content + _MARK + message["content"][len(content) :]}


def _marked_text(text: str) -> str:
    opening = _OPENING.match(text)
    place = opening.end() if opening else 0
    return text[:place] + _MARK + text[place:]


def _rewritten(row: Row, part: str, text: str) -> DataError:
    """The prompt of an answer does not stand unchanged at the start of the whole conversation."""
    differs = len(commonprefix([part, text]))
    thinks = part[differs:].lstrip().startswith("<think>") or part.rstrip().endswith("<think>")
    return row.error(
        f"the chat template asks for an answer otherwise than it writes it: a server sends "
        f"{part[max(differs - 15, 0) : differs + 30]!r}, training would show "
        f"{text[max(differs - 15, 0) : differs + 30]!r}",
        f"give data.template a .jinja file whose answers {'keep the opening <think>' if thinks else 'begin so'}, "
        "or take another model",
    )
