"""`data.columns` gives a format its columns from a file that has others, or says what is wrong with the map."""

from typing import Any

import pytest

from format_rows import ASKED, chosen, refused, row, turn
from sft_runner.data.row import Message
from sft_runner.errors import DataError, UserError


@pytest.mark.parametrize(
    ("columns", "values", "name", "messages"),
    [
        ({"question": "q", "answer": "a"}, {"q": "q", "a": "a"}, "qa", ASKED),
        ({"answer": "solution"}, {"question": "q", "solution": "a"}, "qa", ASKED),
        ({"output": "response"}, {"instruction": "q", "input": "", "response": "a"}, "alpaca", ASKED),
        ({"prompt": "a", "completion": "a"}, {"a": "a"}, "prompt_completion", [turn("user", "a"), ASKED[1]]),
        ({"messages": "turns"}, {"turns": ASKED, "question": "x", "answer": "y"}, "messages", ASKED),
        (
            {"prompt": "{{ title }}: {{ body }}?", "completion": "{{ n + 1 }}"},
            {"title": "t", "body": "b", "n": 6},
            "prompt_completion",
            [turn("user", "t: b?"), turn("assistant", "7")],
        ),
        (
            {"instruction": "{{ instruction }} ({{ input }})"},
            {"instruction": "q", "input": "i", "output": "a"},
            "alpaca",
            [turn("user", "q (i)"), ASKED[1]],
        ),
        (
            {"answer": "{{ answers.text[0] }}"},
            {"question": "q", "context": "c", "answers": {"text": ["a"], "answer_start": [1]}},
            "qa",
            [turn("user", "c\n\nq"), ASKED[1]],
        ),
        (
            {"question": '{{ row["my question"] }}', "answer": "{% if a %}{{ a }}{% endif %}", "system": "{{ 's' }}"},
            {"my question": "q", "a": "a"},
            "qa",
            [turn("system", "s"), *ASKED],
        ),
        ({"text": "{{ x | tojson }}\n"}, {"x": ["ä<", None]}, "text", []),
    ],
)
def test_columns_are_taken_from_others(
    columns: dict[str, str], values: dict[str, Any], name: str, messages: list[Message]
) -> None:
    found = chosen(row(**values), **columns)
    assert (found.name, found.example(row(**values)).messages) == (name, messages)


def test_jinja_keeps_every_character() -> None:
    given = row(x=["ä<", None])
    assert chosen(given, text="{{ x | tojson }}\n").example(given).text == '["ä<", null]\n'


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"question": "qestion", "answer": "b"}, "data.columns.question names the column 'qestion', the columns are"),
        ({"question": "qestion", "answer": "b"}, "did you mean 'question'?"),
        ({"question": "{{ missing }}", "answer": "b"}, "data.columns.question: 'missing' is undefined"),
        ({"question": "{{ nothing }}", "answer": "b"}, "data.columns.question: a value is null"),
        ({"question": "{{ words }}", "answer": "b"}, "data.columns.question: a value is a list; write {{ column |"),
        (
            {"question": "{{ b.__class__.__mro__ }}", "answer": "b"},
            "data.columns.question: access to attribute",
        ),
        ({"question": "{{ words.append(1) }}", "answer": "b"}, "data.columns.question: "),
        ({"question": "{{ 1 // 0 }}", "answer": "b"}, "data.columns.question: integer division or modulo by zero"),
        ({"answer": "words"}, "answer is a list, not text"),
        ({"output": "b"}, "no answer column: question, words, nothing, output"),
    ],
)
def test_a_map_that_does_not_fit_the_row_is_explained(columns: dict[str, str], told: str) -> None:
    assert told in refused(row(question="q", b="b", words=["x"], nothing=None), **columns)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"anser": "b"}, "data.columns: column 'anser' does not exist\n  did you mean 'answer'?"),
        ({"answer": 5}, "data.columns.answer is a number, not a column or a Jinja text"),
        ({"answer": ""}, "data.columns.answer is empty"),
        ({"answer": "{{ b"}, "data.columns.answer: not Jinja, line 1: unexpected end of template"),
        ({"answer": "{{ b | random }}"}, "data.columns.answer: not Jinja, line 1: No filter named 'random'"),
    ],
)
def test_a_map_that_cannot_be_used_is_explained(columns: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as caught:
        chosen(row(question="q", b="b"), **columns)
    assert told in caught.value.show()
    assert not isinstance(caught.value, DataError)


def test_a_named_format_takes_only_its_own_columns() -> None:
    with pytest.raises(UserError, match=r"data\.columns: column 'instruction' does not exist"):
        chosen(row(q="q", a="a"), "qa", instruction="q", answer="a")


def test_a_later_row_without_the_column_is_named() -> None:
    found = chosen(row(q="q", a="a"), question="q", answer="a")
    with pytest.raises(DataError, match=r"line 7: data\.columns\.answer names the column 'a', the columns are q"):
        found.example(row(q="q"))
    with pytest.raises(DataError, match="line 7: answer is null; qa needs question [+] answer"):
        found.example(row(q="q", a=None))
