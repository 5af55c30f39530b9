"""The tokens that mark turns, and those of them at which generation stops."""

import json
import re
from pathlib import Path
from typing import Any


class SpecialTokens:
    """Special tokens of a tokenizer, found on text. A row whose own text holds one of them is not used."""

    def __init__(self, folder: Path, tokenizer: Any) -> None:
        self.stop_ids = _stop_ids(folder, tokenizer)
        self.stops = sorted(tokenizer.convert_ids_to_tokens(sorted(self.stop_ids)))
        added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
        names = {name for name in (*tokenizer.all_special_tokens, *self.stops, *added) if name}
        self.ids: dict[str, int] = {name: tokenizer.convert_tokens_to_ids(name) for name in names}
        self.any = _one_of(names)
        self.stop = _one_of(self.stops)


def _stop_ids(folder: Path, tokenizer: Any) -> set[int]:
    file = folder / "generation_config.json"
    named = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
    ids = named if isinstance(named, list) else [named]
    return {token for token in (*ids, tokenizer.eos_token_id) if token is not None}


def _one_of(names: Any) -> re.Pattern[str]:
    """Any of the names, the longest first; never where there are none."""
    ordered = sorted(filter(None, names), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered)) or r"(?!)")
