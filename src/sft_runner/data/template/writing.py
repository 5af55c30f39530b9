"""Conversations as text, with their answers found on it and nothing lost."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sft_runner.data.row import Example, Message
from sft_runner.data.template import reasoning as thoughts
from sft_runner.data.template.completeness import lost
from sft_runner.data.template.drift import Drift
from sft_runner.data.template.layout import Layout
from sft_runner.data.template.rendering import Renderer
from sft_runner.data.template.turns import Turn, TurnFinder
from sft_runner.errors import DataError

_AGENT = "trajectory"
"""The format of agents' steps: their thoughts are said where a template has no place for reasoning."""

_TELLING = 8
"""Characters from which on a text does not stand in another one by chance."""


@dataclass(frozen=True, slots=True)
class Written:
    """A conversation on its way from text to ids."""

    example: Example
    messages: list[Message]
    text: str
    turns: list[Turn]
    only_last: bool = False
    """Whether only the last answer is trained, because every answer has a row of its own."""
    drifted: list[int] = field(default_factory=list)
    """The answers that stand behind another prompt than a server would send, by the index of their message."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes conversations as one template does."""

    renderer: Renderer
    finder: TurnFinder
    layout: Layout
    drift: Drift

    def write(self, example: Example, reasoning: str) -> list[Written]:
        """The conversation, or each answer with what was said before it where `reasoning=keep` needs that.

        Raises `DataError` where the template loses something, or does not tell the answers from the prompts.
        """
        messages = self._messages(example, reasoning)
        try:
            if reasoning != "keep":
                return [self._whole(example, messages)]
            return self._each_answer(example, messages)
        except DataError:
            raise
        except Exception as error:  # a template can raise anything
            raise example.row.error(
                f"the chat template does not take it: {error}",
                "mend the row, take another model, or give data.template a .jinja file",
            ) from None

    def _messages(self, example: Example, reasoning: str) -> list[Message]:
        """The messages with their reasoning where this template looks for it."""
        if reasoning == "drop":
            return thoughts.dropped(example.messages)
        if self.layout.reasoning:
            return thoughts.beside(example.messages)
        return thoughts.spoken(example.messages) if example.format == _AGENT else example.messages

    def _whole(self, example: Example, messages: list[Message]) -> Written:
        text = self._text(example, messages)
        try:
            turns = self.finder.turns(example.row, messages, example.tools, text)
        except DataError as error:
            if missing := lost(messages, example.tools, text, {}):
                raise example.row.error(*_no_place(missing)) from None
            raise error
        drifted = self.drift.earlier(messages, example.tools, text)
        return self._complete(Written(example, messages, text, turns, drifted=drifted))

    def _each_answer(self, example: Example, messages: list[Message]) -> list[Written]:
        """One row where that shows every answer its own prompt and all its reasoning."""
        text = self._text(example, messages)
        prompt = self.renderer.text(messages[:-1], example.tools, prompt=True)
        if text.startswith(prompt) and not self.drift.earlier(messages, example.tools, text):
            whole = self._whole(example, messages)
            if _keeps_reasoning(whole):
                return [whole]
        answers = (i for i, message in enumerate(messages) if message["role"] == "assistant")
        return [self._last(example, messages[: i + 1]) for i in answers if i not in example.untrained]

    def _last(self, example: Example, messages: list[Message]) -> Written:
        written = self._text(example, messages)
        try:
            text, turns = self.finder.last(example.row, messages, example.tools, written)
        except DataError as error:
            if missing := lost(messages, example.tools, written, {}):
                raise example.row.error(*_no_place(missing)) from None
            raise error
        return self._complete(Written(example, messages, text, turns, only_last=True))

    def _text(self, example: Example, messages: Sequence[Message]) -> str:
        ending = self.layout.call_ending if "tool_calls" in messages[-1] else self.layout.ending
        return self.renderer.text(messages, example.tools) + ending

    def _complete(self, one: Written) -> Written:
        """The same if all of it is in the text. Raises `DataError` naming what is not."""
        row, text = one.example.row, one.text
        answers = {turn.index: text[turn.start : turn.stop] for turn in one.turns}
        if missing := lost(one.messages, one.example.tools, text, answers):
            raise row.error(*_no_place(missing))
        last = len(one.messages) - 1
        for turn in one.turns[:-1]:
            if _runs_on(one.messages[turn.index : turn.index + 2], answers[turn.index]):
                raise row.error(
                    f"the chat template does not end an answer before what follows: {answers[turn.index][-40:]!r}",
                    "give data.template a .jinja file that puts the end token behind each answer",
                )
        for index, message in enumerate(one.messages):
            if index < last and (self.layout.reasoning or "reasoning_content" not in message):
                continue  # what a template leaves of earlier reasoning is its own affair, if it knows any
            said = thoughts.parted(message)[0]
            if said and said not in answers.get(index, text):
                which = "the last answer" if index == last else "an earlier answer"
                raise row.error(
                    f"the chat template has no place for the reasoning of {which}",
                    "give data.template a .jinja file that writes reasoning_content",
                )
        return one


def _keeps_reasoning(whole: Written) -> bool:
    """Whether the reasoning of every earlier answer stands in its turn."""
    return all(
        thoughts.parted(whole.messages[turn.index])[0] in whole.text[turn.start : turn.end] for turn in whole.turns[:-1]
    )


def _runs_on(messages: Sequence[Message], own: str) -> bool:
    """Whether the part of the text that is an answer's own holds the message behind it."""
    answer, heard = messages[0], messages[1]["content"].strip()
    said = f"{thoughts.parted(answer)} {answer['content']} {answer.get('tool_calls')}"
    return len(heard) >= _TELLING and heard in own and heard not in said


def _no_place(missing: str) -> tuple[str, str]:
    return (
        f"the chat template has no place for {missing}: it does not stand in what the model would see",
        "take a model whose template has one, give data.template a .jinja file, or remove it from the rows",
    )
