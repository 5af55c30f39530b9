"""From examples to token ids and labels.

A conversation is rendered once and tokenized once. Its answers are found on that text, from behind their generation
prompts to the tokens that end the turns, and only the tokens of answers keep their ids as labels.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import Data
from sft_runner.data.row import Dropped, Example, Message
from sft_runner.data.template.boundaries import Boundaries
from sft_runner.data.template.choice import template_text
from sft_runner.data.template.completeness import lost
from sft_runner.data.template.encoded import IGNORED, Encoded
from sft_runner.data.template.fill import fill_tokens
from sft_runner.data.template.layout import learned
from sft_runner.data.template.reasoning import dropped, parted
from sft_runner.data.template.rendering import Renderer
from sft_runner.data.template.special_tokens import SpecialTokens
from sft_runner.data.template.turns import Turn, TurnFinder
from sft_runner.errors import DataError, UserError

if TYPE_CHECKING:
    from tokenizers import Encoding


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A conversation on its way from text to ids."""

    example: Example
    messages: list[Message]
    text: str
    turns: list[Turn]
    only_last: bool = False
    """Whether only the last answer is trained, because every answer has a row of its own."""


class ChatTemplate:
    """Tokenizer of the model in `folder`, and the chat template that `data` asks for.

    Its `tokenizer` writes that template, with `data.chat_template_kwargs` as defaults.
    """

    text: str
    """The chat template in effect."""
    changed: bool
    """Whether it differs from the model's own, so that the served model must be given it."""

    def __init__(self, folder: Path, data: Data) -> None:
        from transformers import AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if not self.tokenizer.is_fast:
            raise UserError(
                "model.name: the model's tokenizer cannot tell which characters a token stands for",
                "take a model with a tokenizer.json",
            )
        self._data = data
        self.text = template_text(data, self.tokenizer)
        self.changed = self.text != self.tokenizer.chat_template
        self.tokenizer.chat_template = self.text
        self._fast = self.tokenizer.backend_tokenizer
        self._fast.no_padding()
        self._fast.no_truncation()
        self._special = SpecialTokens(folder, self.tokenizer)
        self._renderer = Renderer(self.tokenizer)
        layout = learned(self._renderer, self._special)
        self._finder = TurnFinder(self._renderer, self._special, layout)
        self._boundaries = Boundaries(self._fast, self._special, layout)
        self._fill = fill_tokens(self.tokenizer)

    def encode(self, examples: Sequence[Example]) -> list[list[Encoded] | Dropped]:
        """Ids and labels of each example, or the reason why it cannot be used.

        One `Encoded` for each, but one for each answer where `data.reasoning=keep` needs it. Raises `DataError`
        where the template loses something, or does not tell a conversation's answers from its prompts.
        """
        found: list[list[Encoded] | Dropped] = [[] for _ in examples]
        rendered: list[tuple[int, _Rendered]] = []
        for place, example in enumerate(examples):
            if self._forged(example):
                found[place] = Dropped.SPECIAL_TOKEN
            elif example.messages:
                rendered += [(place, one) for one in self._rendered(example)]
            else:
                found[place] = self._text_or_fill(example)
        encodings = self._fast.encode_batch([one.text for _, one in rendered], add_special_tokens=False)
        for (place, one), encoding in zip(rendered, encodings, strict=True):
            encoded, before = self._labelled(one, encoding), found[place]
            if isinstance(before, Dropped) or encoded is Dropped.NOTHING_TRAINED:
                continue  # one answer of several; a row without any is seen below
            if isinstance(encoded, Dropped):
                found[place] = encoded
            else:
                before.append(encoded)
        return [one or Dropped.NOTHING_TRAINED for one in found]

    def _forged(self, example: Example) -> bool:
        """Whether the example's own text holds a token that marks turns."""
        search = self._special.any.search
        for message in example.messages:
            if search(message["content"]) and any(map(search, parted(message))):
                return True
            if len(message) > 2 and any(search(str(value)) for key, value in message.items() if key != "content"):
                return True
        if example.tools and search(json.dumps(example.tools, ensure_ascii=False)):
            return True
        if fill := example.fill:
            names = self._fill.names if self._fill else ()
            pieces = (fill.prefix, fill.middle, fill.suffix)
            return any(search(piece) or any(name in piece for name in names) for piece in pieces)
        return bool(example.text and search(example.text))

    def _rendered(self, example: Example) -> list[_Rendered]:
        """The conversation, or with `data.reasoning=keep` the conversation up to each answer where that keeps more."""
        messages = example.messages
        if self._data.reasoning == "drop":
            messages = dropped(messages)
        whole = self._write(example, messages)
        if self._data.reasoning != "keep" or _keeps_reasoning(whole):
            return [whole]
        parts = [self._write(example, messages[: turn.index + 1]) for turn in whole.turns[:-1]]
        return [replace(part, only_last=True) for part in (*parts, whole)]

    def _write(self, example: Example, messages: list[Message]) -> _Rendered:
        """One render, with its answers found and nothing lost. Raises `DataError` that names the row."""
        row, tools = example.row, example.tools
        try:
            text = self._renderer.text(messages, tools)
            turns = self._finder.turns(row, messages, tools, text)
        except DataError as error:
            if missing := lost(messages, tools, text, {}):
                raise row.error(*_no_place(missing)) from None
            raise error
        except Exception as error:  # a template can raise anything
            raise row.error(
                f"the chat template does not take it: {error}",
                "mend the row, take another model, or give data.template a .jinja file",
            ) from None
        if missing := lost(messages, tools, text, {turn.index: text[turn.start : turn.stop] for turn in turns}):
            raise row.error(*_no_place(missing))
        reasoning = parted(messages[-1])[0]
        if reasoning and reasoning not in text[turns[-1].start :]:
            raise row.error(
                "the chat template has no place for the reasoning of the last answer",
                "set data.reasoning=drop, or give data.template a .jinja file that writes reasoning_content",
            )
        return _Rendered(example, messages, text, turns)

    def _labelled(self, one: _Rendered, encoding: "Encoding") -> Encoded | Dropped:
        ids = encoding.ids
        everything = self._data.train_on == "all" and not one.only_last
        labels = list(ids) if everything else [IGNORED] * len(ids)
        trained = len(ids) if everything else 0
        ends, first = [], 0
        for turn in one.turns:
            last = turn is one.turns[-1]
            place = self._boundaries.tokens(one.example.row, one.text, turn, encoding, ids, last)
            if place is None:
                return Dropped.JOINED
            first, end = place
            ends.append((turn.index + 1, end))
            trains = self._trains(one, turn, last)
            if trains and not everything:
                labels[first:end] = ids[first:end]
                trained += end - first
            elif everything and not trains:
                labels[first:end] = [IGNORED] * (end - first)
                trained -= end - first
        return Encoded(ids, labels, first, trained, one.messages, ends) if trained else Dropped.NOTHING_TRAINED

    def _trains(self, one: _Rendered, turn: Turn, last: bool) -> bool:
        """Whether an answer carries loss."""
        example, train_on = one.example, self._data.train_on
        if turn.index in example.untrained or (one.only_last and not last):
            return False
        if train_on == "last":
            return turn.index == len(example.messages) - 1
        return train_on != "completion" or turn.index >= example.completion

    def _text_or_fill(self, example: Example) -> list[Encoded] | Dropped:
        """Plain text, all of it trained, or code to fill in; with what the tokenizer puts around every text."""
        end = self.tokenizer.eos_token_id
        if end is None:
            raise UserError("model.name: the model's tokenizer has no token that ends a text", "take another model")
        if example.fill:
            if self._fill is None:
                return Dropped.NO_FILL_TOKENS
            begin = [token for token in self._fast.encode("").ids if token != end]
            return [self._fill.encode(self._fast, example.fill, begin)]
        ids = self._fast.encode(example.text).ids
        ids = ids if ids and ids[-1] == end else [*ids, end]
        return [Encoded(ids, list(ids), 0, len(ids), [], [])]


def _keeps_reasoning(whole: _Rendered) -> bool:
    """Whether the reasoning of every earlier answer stands in its turn."""
    return all(parted(whole.messages[turn.index])[0] in whole.text[turn.start : turn.end] for turn in whole.turns[:-1])


def _no_place(missing: str) -> tuple[str, str]:
    return (
        f"the chat template has no place for {missing}: it does not stand in what the model would see",
        "take a model whose template has one, give data.template a .jinja file, or remove it from the rows",
    )
