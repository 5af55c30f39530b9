"""Rows that are probably not what their author meant are named by kind, and ordinary ones are left alone."""

import pytest

from format_rows import row, turn
from sft_runner.data.formats import SUSPICIONS, suspicions
from sft_runner.data.row import Example, Fill

NAMED = "I am {{name}}, made by {{ author }}."
LOOP = "I am sorry. " * 30
CODE = "".join(f"    print({n}, 'line {n * n}')\n" for n in range(40))


@pytest.mark.parametrize(
    ("question", "answer", "kinds"),
    [
        ("q", "a", []),
        ("q", NAMED, ["placeholder"]),
        (NAMED, "a", ["placeholder"]),
        ("q", "${{ secrets }} {{{raw}}} \\frac{{a}}{{b}} {'a': {}} {{ a + b }}", []),
        ("q", "caf\ufffd", ["damaged_text"]),
        ("q", "a\x00b", ["damaged_text"]),
        ("q", "it\x92s", ["damaged_text"]),
        ("q", "tab\t line\r\n 你好 émile 👍🏽 a\u200bb\xa0c", []),
        ("What is it?", "What is it?\n", ["echo"]),
        ("", "", []),
        ("q", LOOP, ["repeated"]),
        ("q", "First of all, this is what I have to say about it: " * 3 + LOOP, ["repeated"]),
        ("q", "ha" * 20, []),
        ("q", CODE, []),
        (LOOP, "a", []),
        (NAMED, NAMED + "\ufffd", ["placeholder", "damaged_text"]),
    ],
)
def test_suspicions_of_a_conversation(question: str, answer: str, kinds: list[str]) -> None:
    assert suspicions(Example(row(), "qa", [turn("user", question), turn("assistant", answer)])) == kinds


@pytest.mark.parametrize(
    ("example", "kinds"),
    [
        (Example(row(), "text", text=NAMED), ["placeholder"]),
        (Example(row(), "text", text=LOOP), ["repeated"]),
        (Example(row(), "python", fill=Fill("f'{{name}}'", "\x1b", "")), ["damaged_text"]),
    ],
)
def test_suspicions_of_texts_and_holes(example: Example, kinds: list[str]) -> None:
    assert suspicions(example) == kinds


def test_every_kind_is_explained_in_a_sentence() -> None:
    assert all(text.endswith(".") for text in SUSPICIONS.values())
