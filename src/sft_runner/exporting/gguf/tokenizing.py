"""Token ids as llama.cpp makes them from what a file says: the judge of the tokenizer that was written."""

import heapq
import re
from collections.abc import Callable
from typing import Any

from sft_runner.exporting.gguf.cutting import PRE_TOKENIZERS
from sft_runner.exporting.gguf.vocabulary import (
    BYTE_LEVEL,
    CONTROL,
    KEEPERS,
    SPACE,
    UNKNOWN,
    USER_DEFINED,
    Vocabulary,
)


def tokenizer(vocabulary: Vocabulary) -> Callable[[str], list[int]]:
    """A function from text to ids. Special tokens are found in the text first, the longest first."""
    marks = {
        text: place
        for place, (text, kind) in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True))
        if kind in (CONTROL, USER_DEFINED, UNKNOWN) and text
    }
    pattern = re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True))) or r"(?!)")
    encode = _byte_level(vocabulary) if vocabulary.model == BYTE_LEVEL else _sentencepiece(vocabulary)

    def ids(text: str) -> list[int]:
        found: list[int] = []
        place, behind_mark = 0, True
        for mark in [*pattern.finditer(text), None]:
            end = mark.start() if mark else len(text)
            if between := text[place:end]:
                found += encode((" " if vocabulary.space_prefix and behind_mark else "") + between)
            if mark:
                found.append(marks[mark.group()])
                place = mark.end()
                while vocabulary.swallows and mark.group() not in KEEPERS and text[place : place + 1].isspace():
                    place += 1
            behind_mark = mark is not None
        return found

    return ids


def _byte_level(vocabulary: Vocabulary) -> Callable[[str], list[int]]:
    """The merges of the file behind the cutting that its `pre` stands for."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    steps, ignore_merges = next(key for key, name in PRE_TOKENIZERS.items() if name == vocabulary.pre)
    made: dict[str, Callable[..., Any]] = {
        "bytes": lambda regex: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex),
        "digits": lambda: pre_tokenizers.Digits(individual_digits=True),
        "split": lambda text: pre_tokenizers.Split(Regex(text), "isolated"),
    }
    merges = [(left, right) for left, _, right in (pair.partition(" ") for pair in vocabulary.merges)]
    ids = {text: place for place, text in enumerate(vocabulary.tokens)}
    built: Any = Tokenizer(models.BPE(vocab=ids, merges=merges, ignore_merges=ignore_merges))
    built.pre_tokenizer = pre_tokenizers.Sequence([made[name](*values) for name, *values in steps])
    return lambda text: list(built.encode(text, add_special_tokens=False).ids)


def _sentencepiece(vocabulary: Vocabulary) -> Callable[[str], list[int]]:
    """Neighbours are merged as long as together they are a token, that of the highest score first, then the leftmost;
    what is no token in the end becomes its bytes."""
    ids = {text: place for place, text in enumerate(vocabulary.tokens)}

    def encode(text: str) -> list[int]:
        parts: list[str] = list(text.replace(" ", SPACE))
        after = list(range(1, len(parts) + 1))
        before = list(range(-1, len(parts) - 1))
        queue: list[tuple[float, int, int, str]] = []

        def offer(left: int, right: int) -> None:
            if left >= 0 and right < len(parts) and (together := parts[left] + parts[right]) in ids:
                heapq.heappush(queue, (-vocabulary.scores[ids[together]], left, right, together))

        for place in range(1, len(parts)):
            offer(place - 1, place)
        while queue:
            _, left, right, together = heapq.heappop(queue)
            if not parts[left] or not parts[right] or parts[left] + parts[right] != together:
                continue  # one of the two has been merged since
            parts[left], parts[right] = together, ""
            after[left] = after[right]
            if after[left] < len(parts):
                before[after[left]] = left
            offer(before[left], left)
            offer(left, after[left])
        return [one for part in parts if part for one in _piece(part)]

    def _piece(part: str) -> list[int]:
        return [ids[part]] if part in ids else [ids[f"<0x{byte:02X}>"] for byte in part.encode()]

    return encode
