"""From examples to token ids and labels.

A conversation is rendered once and tokenized once. Its answers are found on that text, from behind their generation
prompts to the tokens that end the turns, and only the tokens of answers keep their ids as labels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Data
from sft_runner.data.row import Dropped, Example
from sft_runner.data.template.boundaries import Boundaries
from sft_runner.data.template.choice import template_text
from sft_runner.data.template.drift import Drift
from sft_runner.data.template.encoded import Encoded
from sft_runner.data.template.fill import fill_tokens
from sft_runner.data.template.forging import forged
from sft_runner.data.template.labelling import labelled
from sft_runner.data.template.layout import learned, sample
from sft_runner.data.template.remedies import remedied
from sft_runner.data.template.rendering import Renderer
from sft_runner.data.template.special_tokens import SpecialTokens
from sft_runner.data.template.turns import TurnFinder
from sft_runner.data.template.writing import Writer, Written
from sft_runner.errors import DataError, UserError


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
        renderer = Renderer(self.tokenizer)
        self._special = SpecialTokens(folder, self.tokenizer, sample(renderer))
        layout = learned(renderer, self._special)
        finder = TurnFinder(renderer, self._special, layout)
        self._writer = Writer(renderer, finder, layout, Drift(renderer, layout.reasoning))
        self._boundaries = Boundaries(self._fast, self._special, layout)
        self._fill = fill_tokens(self.tokenizer)

    def encode(self, examples: Sequence[Example]) -> list[list[Encoded] | Dropped]:
        """Ids and labels of each example, or the reason why it cannot be used.

        One `Encoded` for each, but one for each answer where `data.reasoning=keep` needs it. Raises `DataError`
        where the template loses something, or does not tell a conversation's answers from its prompts.
        """
        found: list[list[Encoded] | Dropped] = [[] for _ in examples]
        written: list[tuple[int, Written]] = []
        for place, example in enumerate(examples):
            if forged(example, self._special, self._fill):
                found[place] = Dropped.SPECIAL_TOKEN
            elif example.messages:
                written += [(place, one) for one in self._written(example)]
            else:
                found[place] = self._text_or_fill(example)
        encodings = self._fast.encode_batch([one.text for _, one in written], add_special_tokens=False)
        for (place, one), encoding in zip(written, encodings, strict=True):
            encoded = labelled(one, encoding, self._boundaries, self._data.train_on)
            before = found[place]
            if isinstance(before, Dropped) or encoded is Dropped.NOTHING_TRAINED:
                continue  # one answer of several; a row without any is seen below
            if isinstance(encoded, Dropped):
                found[place] = encoded
            else:
                before.append(encoded)
        return [one or Dropped.NOTHING_TRAINED for one in found]

    def _written(self, example: Example) -> list[Written]:
        try:
            return self._writer.write(example, self._data.reasoning)
        except DataError as error:
            raise remedied(error, self._writer, example, self._data.reasoning) from None

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
