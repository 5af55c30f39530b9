"""How a byte-level tokenizer cuts text before it merges.

llama.cpp has its own code for each way, chosen by a name. A tokenizer whose way it does not have is refused, not
guessed.
"""

from collections.abc import Mapping
from typing import Any

from sft_runner.exporting.gguf.families import refused

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*%s"
_CASED_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PRE_TOKENIZERS: dict[tuple[tuple[tuple[Any, ...], ...], bool], str] = {
    ((("bytes", True),), False): "gpt-2",
    ((("digits",), ("bytes", True)), False): "smollm",
    ((("split", rf"{_CONTRACTIONS}|\p{{N}}{_REST}"), ("bytes", False)), False): "qwen2",
    ((("split", rf"{_CONTRACTIONS}|\p{{N}}{{1,3}}{_REST}"), ("bytes", False)), True): "llama-bpe",
    ((("split", rf"{_CONTRACTIONS}|\p{{N}}{{1,3}}{_REST}"), ("bytes", False)), False): "smaug-bpe",
    ((("split", _CASED % ("", "") + rf"|\p{{N}}{_CASED_REST}"), ("bytes", False)), True): "tekken",
    ((("split", _CASED % (_SHORT, _SHORT) + rf"|\p{{N}}{{1,3}}{_CASED_REST}"), ("bytes", False)), False): "gpt-4o",
}
"""How a tokenizer cuts text, and whether it takes whole words before it merges -> llama.cpp's name for it."""

APPROXIMATE = ("tekken", "gpt-4o")
"""Those whose rule llama.cpp only comes near to: letters with combining marks, as in Hindi, are cut otherwise."""


def name_of(parts: Mapping[str, Any]) -> str:
    """llama.cpp's name for the way in which a byte-level tokenizer cuts text."""
    normal = parts["normalizer"]
    if normal and normal["type"] != "NFC" and normal.get("normalizers") != []:
        raise refused(f"its tokenizer rewrites text ({normal['type']}), which llama.cpp does not")
    found = parts["pre_tokenizer"] or {"type": "none"}
    steps = tuple(map(_step, found["pretokenizers"] if found["type"] == "Sequence" else [found]))
    if not parts["model"]["merges"] and steps[-1][0] == "bytes":
        return "gpt-2"  # nothing is merged, so it does not matter where text is cut
    name = PRE_TOKENIZERS.get((steps, bool(parts["model"].get("ignore_merges"))))
    if name is None:
        raise refused("its tokenizer cuts text in a way that is not known here")
    return name


def _step(step: Mapping[str, Any]) -> tuple[Any, ...]:
    """One step of cutting text, in few words; what is unusual in any way has no name."""
    match step:
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return "bytes", bool(step.get("use_regex", True))
        case {"type": "Digits", "individual_digits": True}:
            return ("digits",)
        case {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}:
            return "split", pattern
        case {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": True}:
            return "split", pattern
    return ("unknown", step["type"])
