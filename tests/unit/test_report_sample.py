"""The text of trained and untrained tokens, joined, is the text of all tokens, however they divide it."""

import random
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from sft_runner.data.report.sample import spans, special

TINY = Path(__file__).parents[2] / "src" / "sft_runner" / "embedded" / "tiny"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(TINY)


@pytest.fixture(scope="module")
def metaspace(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tokenizer in the way of SentencePiece: spaces are part of words, and a text's first one is dropped."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "</s>", "▁a", "▁b", "b", *(f"<0x{byte:02X}>" for byte in range(256))]
    inner = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [], byte_fallback=True))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", unk_token="<unk>")


def labels(ids: list[int], *trained: tuple[int, int]) -> list[int]:
    return [i if any(a <= n < b for a, b in trained) else -100 for n, i in enumerate(ids)]


def test_consecutive_tokens_of_a_kind_are_one_piece(tokenizer: Any) -> None:
    ids = tokenizer("Write the date.<|im_end|>\nyes")["input_ids"]
    end = ids.index(tokenizer.convert_tokens_to_ids("<|im_end|>"))
    assert spans(tokenizer, ids, labels(ids, (0, end + 1))) == [("Write the date.<|im_end|>", True), ("\nyes", False)]
    assert spans(tokenizer, ids, ids) == [("Write the date.<|im_end|>\nyes", True)]
    assert spans(tokenizer, [], []) == []


def test_a_divided_character_is_whole_and_counts_as_trained(tokenizer: Any) -> None:
    ids = tokenizer("x😀y")["input_ids"]
    assert len(ids) == 6, "the emoji is four tokens"
    assert spans(tokenizer, ids, labels(ids, (3, 6))) == [("x", False), ("😀y", True)]
    assert spans(tokenizer, ids, labels(ids, (0, 3))) == [("x😀", True), ("y", False)]
    assert spans(tokenizer, ids, labels(ids, (2, 3))) == [("x", False), ("😀", True), ("y", False)]


def test_no_mask_loses_or_doubles_text(tokenizer: Any) -> None:
    ids = tokenizer("é 😀\ufffd")["input_ids"]
    for mask in product((True, False), repeat=len(ids)):
        pieces = spans(tokenizer, ids, [i if kind else -100 for i, kind in zip(ids, mask, strict=True)])
        assert "".join(text for text, _ in pieces) == "é 😀\ufffd"


def test_spaces_that_a_decoder_strips_are_kept_inside(metaspace: Any) -> None:
    ids = metaspace.convert_tokens_to_ids(["▁a", "▁b", "b", "▁a", "</s>"])
    assert spans(metaspace, ids, labels(ids, (1, 3))) == [("a", False), (" bb", True), (" a</s>", False)]


def test_special_tokens_are_named_once(tokenizer: Any) -> None:
    ids = tokenizer("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
    assert special(tokenizer, ids) == ["<|im_start|>", "<|im_end|>"]
    assert special(tokenizer, tokenizer("hi")["input_ids"]) == []


def masks(length: int, seed: int) -> Iterator[bool]:
    chance = random.Random(seed)
    return (chance.random() < 0.5 for _ in range(length))


@pytest.mark.parametrize("seed", range(5))
def test_random_text_with_a_random_mask(tokenizer: Any, seed: int) -> None:
    chance = random.Random(seed)
    text = "".join(chance.choice("ab \n😀é中\u200d") for _ in range(80))
    ids = tokenizer(text)["input_ids"]
    marked = [i if kind else -100 for i, kind in zip(ids, masks(len(ids), seed), strict=True)]
    assert "".join(piece for piece, _ in spans(tokenizer, ids, marked)) == text
