"""A tokenizer in llama.cpp's words: its tokens with their kinds, its merges or scores, its special tokens."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sft_runner.exporting.gguf import cutting
from sft_runner.exporting.gguf.families import refused

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Kinds of tokens: an ordinary one, one that stands for what is not known, one that marks turns, one that is matched
whole before merging, one that no text has, and one byte."""
SPACE = "\u2581"
"""How SentencePiece writes a space."""
KEEPERS = ("<unk>", "<s>", "<|endoftext|>")
"""Special tokens of Phi-3 that keep the space behind them; there are also others, with `</s>` among them."""
PHI_3 = ("phi-3", "phi3")
"""What a model's name holds whose special tokens llama.cpp takes to be Phi-3's."""
NAMED = (*PHI_3, "jina-v", "modern-bert")
"""Parts of names that llama.cpp takes as a sign of special tokens of their own."""
BYTE_LEVEL, SENTENCEPIECE = "gpt2", "llama"
"""llama.cpp's names of the two models of tokenizers."""


@dataclass(frozen=True)
class Vocabulary:
    """What the file says of the tokenizer."""

    model: str
    """`gpt2` merges the bytes of text that was cut before, `llama` (SentencePiece) all of its characters."""
    pre: str
    """llama.cpp's name for the way that text is cut."""
    tokens: Sequence[str]
    """The tokens' texts by id."""
    kinds: Sequence[int]
    """Their kinds."""
    merges: Sequence[str] = ()
    """Of a byte-level tokenizer, pairs such as `a b`, the first to be merged first."""
    scores: Sequence[float] = ()
    """Of a SentencePiece one: the pair that makes the token with the highest score is merged first."""
    ids: Mapping[str, int] = field(default_factory=dict)
    """`bos`, `eos`, `eot`, `pad`, `unk` -> id, as far as there are such tokens."""
    add_bos: bool = False
    """Whether every text begins with `bos`."""
    add_eos: bool = False
    """Whether every text ends with `eos`."""
    space_prefix: bool = False
    """Whether text behind a special token gets a space in front."""
    template: str = ""
    """The chat template, in Jinja."""
    swallows: bool = False
    """Whether space behind a special token is dropped, but for those in `KEEPERS`. llama.cpp does so by the model's
    name."""
    composes: bool = False
    """Whether the tokenizer brings text into Unicode's composed form first, which llama.cpp does not."""


def read(folder: Path, size: int) -> Vocabulary:
    """The tokenizer in a model's folder, for an embedding of `size` rows. Raises `UserError` where it has no place."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    model = parts["model"]
    if model["type"] != "BPE":
        raise refused(f"its tokenizer is of the kind {model['type']}, not BPE")
    special = {name: getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad", "unk")}
    ids = {name: value for name, value in special.items() if value is not None}
    if (end := _end_of_turn(folder, ids.get("eos"))) is not None:
        ids["eot"] = end
    around = tokenizer("a")["input_ids"]
    common: dict[str, Any] = {
        "ids": ids,
        "add_bos": bool(around) and around[0] == ids.get("bos"),
        "add_eos": bool(around) and around[-1] == ids.get("eos"),
        "template": tokenizer.get_chat_template() if tokenizer.chat_template else "",
        "composes": (parts["normalizer"] or {}).get("type") == "NFC",
        "swallows": _swallows(parts["added_tokens"]),
    }
    bytewise = not model.get("byte_fallback")
    tokens, kinds = _tokens(parts, size, bytewise)
    pairs = [tuple(pair.split(" ", 1)) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]]
    if bytewise:
        merges = [" ".join(part.replace(" ", "\u0120") for part in pair) for pair in pairs]
        return Vocabulary(BYTE_LEVEL, cutting.name_of(parts), tokens, kinds, merges, **common)
    scores = _scores(tokens, pairs)
    return Vocabulary(
        SENTENCEPIECE,
        "default",
        tokens,
        kinds,
        (),
        scores,
        space_prefix=_prefixes(parts, bool(common["template"])),
        **common,
    )


def write(vocabulary: Vocabulary, writer: Any) -> None:
    """Tell a `gguf.GGUFWriter`."""
    import gguf

    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types(list(vocabulary.kinds))
    if vocabulary.model == BYTE_LEVEL:
        kind, text = gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.STRING
        writer.add_key_value(gguf.Keys.Tokenizer.MERGES, list(vocabulary.merges), kind, sub_type=text)
    else:
        writer.add_token_scores(list(vocabulary.scores))
        writer.add_add_space_prefix(vocabulary.space_prefix)
    for name, value in vocabulary.ids.items():
        getattr(writer, f"add_{name}_token_id")(value)
    writer.add_add_bos_token(vocabulary.add_bos)
    writer.add_add_eos_token(vocabulary.add_eos)
    writer.add_chat_template(vocabulary.template)


def name_for(name: str, vocabulary: Vocabulary) -> str:
    """A model's name as the file says it: llama.cpp sees Phi-3's special tokens where it reads its name."""
    if vocabulary.swallows:
        return name if any(part in name.lower() for part in PHI_3) else f"{name} {PHI_3[0]}"
    for part in NAMED:
        name = re.sub(re.escape(part), f"{part[:-1]}_{part[-1]}", name, flags=re.IGNORECASE)
    return name


def limits(vocabulary: Vocabulary) -> Iterator[str]:
    """What llama.cpp does not do as the tokenizer does, a sentence each."""
    if vocabulary.pre in cutting.APPROXIMATE:
        yield "gguf: llama.cpp cuts letters with combining marks, as in Hindi, otherwise than the model's tokenizer"
    if vocabulary.composes:
        yield "gguf: llama.cpp does not compose letters and accents (NFC) as the model's tokenizer does"


def read_back(fields: Mapping[str, Any]) -> Vocabulary:
    """The tokenizer that a file tells; `fields` are those of a `gguf.GGUFReader`."""

    def value(key: str, default: Any = None) -> Any:
        found = fields.get(f"tokenizer.{key}")
        return default if found is None else found.contents()

    names = {"bos": "bos", "eos": "eos", "eot": "eot", "pad": "padding", "unk": "unknown"}
    ids = {name: value(f"ggml.{own}_token_id") for name, own in names.items()}
    return Vocabulary(
        value("ggml.model"),
        value("ggml.pre"),
        value("ggml.tokens"),
        value("ggml.token_type"),
        value("ggml.merges", ()),
        value("ggml.scores", ()),
        {name: one for name, one in ids.items() if one is not None},
        value("ggml.add_bos_token"),
        value("ggml.add_eos_token"),
        value("ggml.add_space_prefix", False),
        value("chat_template", ""),
        any(part in fields["general.name"].contents().lower() for part in PHI_3),
    )


def _swallows(added: Sequence[Mapping[str, Any]]) -> bool:
    """Whether special tokens swallow space as Phi-3's do. Raises `UserError` where they do it otherwise."""
    swallow = {token["content"] for token in added if token["rstrip"]}
    if any(token["lstrip"] or token["single_word"] for token in added):
        raise refused("special tokens of its tokenizer depend on what stands in front of them")
    others = {token["content"] for token in added} - {*KEEPERS}
    if swallow and (swallow != others or not {*KEEPERS, "</s>"} <= {token["content"] for token in added}):
        raise refused("some special tokens of its tokenizer swallow the space behind them")
    return bool(swallow)


def _tokens(parts: Mapping[str, Any], size: int, bytewise: bool) -> tuple[list[str], list[int]]:
    """Texts and kinds by id; ids that no text has are filled up to the rows of the embedding."""
    model = parts["model"]
    texts: dict[int, str] = {place: token for token, place in model["vocab"].items()}
    kinds = dict.fromkeys(texts, NORMAL)
    if not bytewise:
        kinds |= {place: BYTE for place, text in texts.items() if len(text) == 6 and text.startswith("<0x")}
    for token in parts["added_tokens"]:
        text, place = token["content"], token["id"]
        kinds[place] = CONTROL if token["special"] else USER_DEFINED
        # matched before spaces are written otherwise, so they must stand there as spaces
        texts[place] = text if bytewise or token["special"] else text.replace(SPACE, " ")
        if text == model.get("unk_token"):
            kinds[place] = UNKNOWN
    most = max(texts) + 1
    if most > size:
        raise refused(f"its tokenizer has {most} tokens, its embedding {size} rows")
    named = [texts.get(place, f"[PAD{place}]") for place in range(size)]
    return named, [kinds.get(place, UNUSED) for place in range(size)]


def _scores(tokens: Sequence[str], pairs: Sequence[tuple[str, ...]]) -> list[float]:
    """A score for each token that makes llama.cpp merge in the order of `pairs`."""
    first: dict[str, int] = {}
    for rank, pair in enumerate(pairs):
        first.setdefault("".join(pair), rank)
    return [-float(first.get(token, len(pairs))) for token in tokens]


def _prefixes(parts: Mapping[str, Any], chats: bool) -> bool:
    """Whether a SentencePiece tokenizer writes a space in front of text, also behind special tokens.

    One that does so only in front of everything never does it in a chat, which begins with a special token.
    """
    normal = parts["normalizer"] or {}
    steps = [*normal.get("normalizers", [normal]), parts["pre_tokenizer"] or {}]
    schemes = {step.get("prepend_scheme") for step in steps if step.get("type") == "Metaspace"}
    return (
        any(step.get("type") == "Prepend" for step in steps)
        or "always" in schemes
        or ("first" in schemes and not chats)
    )


def _end_of_turn(folder: Path, eos: int | None) -> int | None:
    """A second token at which generation stops, such as Gemma's `<end_of_turn>`."""
    path = folder / "generation_config.json"
    named = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
    return next((one for one in (named if isinstance(named, list) else [named]) if one not in (None, eos)), None)
