"""What a reader would not see is shown, and nothing is lost or obeyed."""

import pytest

from sft_runner.data.report.visible import cut, parts


def shown(text: str, *special: str) -> str:
    return "".join(part for part, _ in parts(text, special))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text, 中文 and 👩‍💻", "plain text, 中文 and 👩‍💻"),
        ("two\nlines", "two↵\nlines"),
        ("two\r\nlines", "two␍↵\nlines"),
        ("a\tb", "a⇥b"),
        ("one space", "one space"),
        ("two  spaces", "two··spaces"),
        (" at the ends ", "·at the ends·"),
        ("before a break \nmore", "before a break·↵\nmore"),
        ("zero\u200bwidth", "zero⟨U+200B⟩width"),
        ("fixed\u00a0space", "fixed⟨U+00A0⟩space"),
        ("turned \u202eround", "turned ⟨U+202E⟩round"),
        ("\x1b[31mred\x07", "⟨U+001B⟩[31mred⟨U+0007⟩"),
        ("half \ud83d", "half ⟨U+D83D⟩"),
        ("", ""),
    ],
)
def test_marks(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_special_tokens_are_told_apart() -> None:
    found = list(parts("<|im_start|>hi</s></s2>", ["</s>", "<|im_start|>", "", "</s>"]))
    assert found == [("<|im_start|>", "special"), ("hi", "text"), ("</s>", "special"), ("</s2>", "text")]


def test_the_longest_special_token_wins() -> None:
    assert list(parts("<|a|><|a|>b", ["<|a|>", "<|a|>b"])) == [("<|a|>", "special"), ("<|a|>b", "special")]


def test_only_the_middle_of_a_long_text_is_left_out() -> None:
    assert cut("x" * 90, 90) == "x" * 90
    assert cut("a" * 60 + "b" * 1000 + "c" * 30, 90) == "a" * 60 + "…⟨1,000 characters⟩…" + "c" * 30
