"""From messages to token ids and labels, by the model's own chat template.

A conversation is rendered once and tokenized once. Each answer is found on the text, from behind its generation
prompt to the token that ends the turn, and only the tokens of answers keep their ids as labels.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.data.row import Conversation, Dropped, Message
from sft_runner.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Encoding

IGNORED = -100
"""The label of a token that carries no loss, as everywhere in transformers."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A conversation as the trainer sees it."""

    input_ids: list[int]
    """Token ids of the whole conversation."""
    labels: list[int]
    """The ids of the answers' tokens, `IGNORED` elsewhere."""
    prompt_length: int
    """How many ids stand before the last answer."""
    trained: int
    """How many labels are not `IGNORED`."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """One answer on the rendered text."""

    start: int
    """The character behind its generation prompt."""
    end: int
    """The character behind all that the template writes for it."""


class ChatTemplate:
    """Tokenizer and chat template of the model in `folder`."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if not self.tokenizer.chat_template:
            raise UserError(
                "model.name: the model's tokenizer has no chat template",
                "take an instruct or chat version of the model",
            )
        if not self.tokenizer.is_fast:
            raise UserError(
                "model.name: the model's tokenizer cannot tell which characters a token stands for",
                "take a model with a tokenizer.json",
            )
        self._fast = self.tokenizer.backend_tokenizer
        self._fast.no_padding()
        self._fast.no_truncation()
        self._stops = _stop_ids(folder, self.tokenizer)
        added = self.tokenizer.added_tokens_decoder.values()
        stops = self.tokenizer.convert_ids_to_tokens(sorted(self._stops))
        specials = {*self.tokenizer.all_special_tokens, *stops, *(str(token) for token in added if token.special)}
        self._special = re.compile("|".join(map(re.escape, sorted(filter(None, specials)))) or r"(?!)")

    def encode(self, conversations: Sequence[Conversation]) -> list[Encoded | Dropped]:
        """Each conversation as ids and labels, or the reason why it cannot be used.

        Raises `DataError` where the answers of a conversation cannot be told from its prompts.
        """
        marked = [any(self._special.search(message["content"]) for message in c.messages) for c in conversations]
        encoded = iter(self._encode([c for c, skip in zip(conversations, marked, strict=True) if not skip]))
        return [Dropped.SPECIAL_TOKEN if skip else next(encoded) for skip in marked]

    def _encode(self, conversations: Sequence[Conversation]) -> list[Encoded | Dropped]:
        texts = self._render(conversations, [c.messages for c in conversations], prompt=False)
        prompts = self._render(conversations, [c.messages[:-1] for c in conversations], prompt=True)
        earlier = self._earlier_turns(conversations, texts)
        encodings = self._fast.encode_batch(texts, add_special_tokens=False)
        prompt_encodings = self._fast.encode_batch_fast(prompts, add_special_tokens=False)
        found: list[Encoded | Dropped] = []
        for i, conversation in enumerate(conversations):
            text, prompt = texts[i], prompts[i]
            _require_prefix(conversation, prompt, text)
            turns = [*earlier.get(i, ()), _Turn(len(prompt), len(text))]
            found.append(self._label(conversation, text, turns, encodings[i], prompt_encodings[i].ids))
        return found

    def _render(self, owners: Sequence[Conversation], messages: Sequence[list[Message]], prompt: bool) -> list[str]:
        """Text of message lists, each with the generation prompt if it is a prompt."""
        if not messages:
            return []
        try:
            return self._apply(list(messages), prompt)
        except Exception:  # a template can raise anything; find the row and say what it said
            for owner, one in zip(owners, messages, strict=True):
                try:
                    self._apply([one], prompt)
                except Exception as error:
                    raise owner.row.error(
                        f"the model's chat template does not take it: {error}", "mend the row, or take another model"
                    ) from None
            raise

    def _apply(self, messages: list[list[Message]], prompt: bool) -> list[str]:
        texts: list[str] = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        return texts

    def _earlier_turns(self, conversations: Sequence[Conversation], texts: Sequence[str]) -> dict[int, list[_Turn]]:
        """The answers before the last one, for the conversations that have some."""
        places = [
            (i, end)
            for i, conversation in enumerate(conversations)
            for end, message in enumerate(conversation.messages[:-1])
            if message["role"] == "assistant"
        ]
        owners = [conversations[i] for i, _ in places]
        before = self._render(owners, [conversations[i].messages[:end] for i, end in places], prompt=True)
        behind = self._render(owners, [conversations[i].messages[: end + 1] for i, end in places], prompt=False)
        turns: dict[int, list[_Turn]] = {}
        for (i, _), start, end in zip(places, before, behind, strict=True):
            _require_prefix(conversations[i], start, texts[i])
            _require_prefix(conversations[i], end, texts[i])
            turns.setdefault(i, []).append(_Turn(len(start), len(end)))
        return turns

    def _label(
        self, conversation: Conversation, text: str, turns: Sequence[_Turn], encoding: "Encoding", prompt: list[int]
    ) -> Encoded | Dropped:
        ids = encoding.ids
        labels = [IGNORED] * len(ids)
        trained = 0
        for turn in turns:
            first = _first_token(encoding, turn)
            if turn is turns[-1] and ids[:first] != prompt:
                first = None
            if first is None:
                if text[turn.start : turn.start + 1].isspace():
                    return Dropped.JOINED
                raise conversation.row.error(
                    "the model's tokenizer does not part the prompt from the answer: "
                    f"{text[max(turn.start - 20, 0) : turn.start]!r} and {text[turn.start : turn.start + 20]!r} "
                    "are other tokens together than alone",
                    "take another model, or a version of it with another chat template",
                )
            end = self._end_of_turn(conversation, text, turn, encoding, ids, first)
            labels[first:end] = ids[first:end]
            trained += end - first
        return Encoded(ids, labels, len(prompt), trained)

    def _end_of_turn(
        self, conversation: Conversation, text: str, turn: _Turn, encoding: "Encoding", ids: list[int], first: int
    ) -> int:
        """The position behind the token that ends an answer. Its text holds no such token of its own."""
        for index in range(first, len(ids)):
            if ids[index] in self._stops:
                span = encoding.token_to_chars(index)
                if span and span[1] <= turn.end:
                    return index + 1
                break
        stops = ", ".join(sorted(self.tokenizer.convert_ids_to_tokens(list(self._stops)))) or "none"
        raise conversation.row.error(
            f"the model's chat template ends the answer with {text[turn.start : turn.end][-20:]!r}, "
            f"which holds no token that ends generation ({stops}), so the model would not learn to stop",
            "take an instruct version of the model, whose template and eos_token belong together",
        )


def _stop_ids(folder: Path, tokenizer: Any) -> set[int]:
    """The tokens at which generation stops."""
    file = folder / "generation_config.json"
    named = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
    ids = named if isinstance(named, list) else [named]
    return {token for token in (*ids, tokenizer.eos_token_id) if token is not None}


def _first_token(encoding: "Encoding", turn: _Turn) -> int | None:
    """The token with which an answer begins; None where that token holds some of the prompt too."""
    for position in range(turn.start, turn.end):
        token = encoding.char_to_token(position)
        if token is not None:  # some tokenizers leave leading white space out of a token's characters
            span = encoding.token_to_chars(token)
            return token if span and span[0] >= turn.start else None
    return None


def _require_prefix(conversation: Conversation, part: str, text: str) -> None:
    """The prompt of an answer must stand unchanged at the start of the whole conversation."""
    if text.startswith(part):
        return
    differs = next((i for i, (a, b) in enumerate(zip(part, text, strict=False)) if a != b), min(len(part), len(text)))
    raise conversation.row.error(
        "the model's chat template writes a turn otherwise once the conversation goes on: first "
        f"{part[differs : differs + 30]!r}, then {text[differs : differs + 30]!r}; "
        "so its answers cannot be told from its prompts",
        "take a model whose template keeps earlier turns, or rows with one question and one answer",
    )
