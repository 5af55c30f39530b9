"""The tokens that mark turns, and those of them at which generation stops."""

import json
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from sft_runner.data.template.reasoning import TAGS


class SpecialTokens:
    """The tokens of a tokenizer that no row's own text may hold: such rows are not used.

    These are its special tokens, and those added ones that the template writes around turns: DeepSeek's
    `<｜User｜>` is not special, but would open a turn all the same. `written` is a conversation as the template writes
    it. Think tags are no marks: answers may hold them.
    """

    def __init__(self, folder: Path, tokenizer: Any, written: str = "") -> None:
        self.stop_ids = _stop_ids(folder, tokenizer)
        self.stops = sorted(tokenizer.convert_ids_to_tokens(sorted(self.stop_ids)))
        added = tokenizer.added_tokens_decoder.values()
        marks = {str(token) for token in added if token.special or (str(token) in written and str(token) not in TAGS)}
        names = {name for name in (*tokenizer.all_special_tokens, *self.stops, *marks) if name}
        self._added = names | {str(token) for token in added}
        self.ids: dict[str, int] = {name: tokenizer.convert_tokens_to_ids(name) for name in names}
        self.any = _one_of(names)
        self.stop = _one_of(self.stops)

    def border(self, text: str, place: int) -> int:
        """A place in a text, or the start of the token that lies across it."""
        return next((m.start() for m in self._token.finditer(text) if m.start() < place < m.end()), place)

    @cached_property
    def _token(self) -> re.Pattern[str]:
        return _one_of(self._added)


def _stop_ids(folder: Path, tokenizer: Any) -> set[int]:
    file = folder / "generation_config.json"
    named = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
    ids = named if isinstance(named, list) else [named]
    return {token for token in (*ids, tokenizer.eos_token_id) if token is not None}


def _one_of(names: Iterable[str]) -> re.Pattern[str]:
    """Any of the names, the longest first; never where there are none."""
    ordered = sorted(filter(None, names), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered)) or r"(?!)")
