"""Rows of every format become what was meant, and are told apart by their columns."""

import json
import pickle
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from format_rows import ASKED, chosen, refused, row, turn
from sft_runner.config.schema import Data
from sft_runner.data.formats import FORMATS, reason_to_drop
from sft_runner.data.row import Dropped, Example, Fill, Message, Row
from sft_runner.errors import DataError

SHARE = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
SYSTEM = turn("system", "s")
CASES: list[tuple[str, dict[str, Any], list[Message]]] = [
    ("alpaca", {"instruction": "q", "output": "a"}, ASKED),
    ("alpaca", {"instruction": "q", "input": "", "output": "a", "history": []}, ASKED),
    ("alpaca", {"instruction": "q", "input": "i", "output": "a"}, [turn("user", "q\ni"), ASKED[1]]),
    ("alpaca", {"instruction": "", "input": "i", "output": "a"}, [turn("user", "i"), ASKED[1]]),
    ("alpaca", {"instruction": "q", "output": "a", "system": "s", "text": "t"}, [SYSTEM, *ASKED]),
    (
        "alpaca",
        {"instruction": "q", "output": "a", "history": [["x", "y"]]},
        [turn("user", "x"), turn("assistant", "y"), *ASKED],
    ),
    ("qa", {"question": "q", "answer": "a"}, ASKED),
    ("qa", {"question": "q", "answer": "a", "context": None, "messages": None}, ASKED),
    ("qa", {"question": "q", "answer": "a", "context": "c"}, [turn("user", "c\n\nq"), ASKED[1]]),
    ("prompt_completion", {"prompt": "q", "completion": "a", "system": "s"}, [SYSTEM, *ASKED]),
    ("prompt_completion", {"prompt": ASKED[:1], "completion": ASKED[1:]}, ASKED),
    ("prompt_completion", {"prompt": SHARE[:1], "completion": SHARE[1]}, ASKED),
    ("messages", {"messages": ASKED}, ASKED),
    ("messages", {"messages": ASKED, "prompt": "q", "prompt_id": "7"}, ASKED),
    ("messages", {"messages": [SYSTEM, *ASKED], "system": "s"}, [SYSTEM, *ASKED]),
    ("messages", {"messages": [{**SYSTEM, "role": "developer"}, *ASKED]}, [SYSTEM, *ASKED]),
    ("messages", {"messages": SHARE}, ASKED),
    ("messages", {"messages": json.dumps(ASKED)}, ASKED),
    ("conversations", {"conversations": SHARE, "system": "s", "tools": ""}, [SYSTEM, *ASKED]),
    ("conversations", {"conversations": [{**t, "tool_calls": None} for t in ASKED * 2]}, ASKED * 2),
    ("conversations", {"conversations": [turn("assistant", "hello"), *ASKED]}, [turn("assistant", "hello"), *ASKED]),
    ("preference", {"prompt": "q", "chosen": "a", "rejected": "b"}, ASKED),
    (
        "preference",
        {"question": "q", "context": "c", "chosen": "a", "rejected": "b"},
        [turn("user", "c\n\nq"), ASKED[1]],
    ),
    (
        "preference",
        {"instruction": "q", "input": "i", "chosen": "a", "rejected": "b"},
        [turn("user", "q\ni"), ASKED[1]],
    ),
    ("preference", {"prompt": ASKED[:1], "chosen": ASKED[1:], "rejected": [turn("assistant", "b")]}, ASKED),
    ("preference", {"conversations": SHARE[:1], "chosen": SHARE[1], "rejected": {"from": "gpt", "value": "b"}}, ASKED),
    (
        "preference",
        {"prompt": "q", "chosen": ASKED, "rejected": [ASKED[0], turn("assistant", "b")], "messages": ASKED},
        ASKED,
    ),
]


@pytest.mark.parametrize(("name", "values", "messages"), CASES)
def test_a_row_is_recognised_and_converted(name: str, values: dict[str, Any], messages: list[Message]) -> None:
    found = chosen(row(**values))
    example = found.example(row(**values))
    assert (found.name, example.format, example.messages) == (name, name, messages)
    assert chosen(row(**values), name).example(row(**values)) == example
    assert example.completion == len(messages) - 1
    assert not example.untrained


def test_a_plain_text_is_learned_as_a_whole() -> None:
    given = row(text="t", url="u")
    assert chosen(given).example(given) == Example(given, "text", text="t")


def test_a_hole_and_a_pair_stand_in_one_source_of_code() -> None:
    hole, pair = row(prefix="p", middle="m", suffix=""), row(prompt="q", completion="a")
    python = chosen(hole)
    assert python.example(hole) == Example(hole, "python", fill=Fill("p", "m", ""))
    assert python.example(pair).messages == ASKED


@pytest.mark.parametrize(("file", "name"), [("a/b.py", "python"), ("b.md", "docs"), ("b.jsonl", "prompt_completion")])
def test_pairs_that_were_made_of_a_file_are_named_after_it(file: str, name: str) -> None:
    given = Row({"prompt": "q", "completion": "a"}, file, 3)
    assert chosen(given).example(given).format == name


@pytest.mark.parametrize(
    ("template", "values", "question"),
    [
        ("sage_alpaca", {"instruction": "q", "input": "i", "output": "a"}, "q\n\n### Input:\ni"),
        ("sage_alpaca", {"instruction": "q", "input": "", "output": "a"}, "q"),
        ("sage_qa", {"question": "q", "context": "c", "answer": "a"}, "q\n\n### Context:\nc"),
        ("sage_conversation", {"question": "q", "context": "c", "answer": "a"}, "c\n\nq"),
    ],
)
def test_the_template_decides_how_a_question_is_joined(template: str, values: dict[str, str], question: str) -> None:
    assert chosen(row(**values)).example(row(**values), template).messages[0]["content"] == question


def test_a_completion_may_be_several_turns() -> None:
    given = row(prompt=[SYSTEM, *ASKED, ASKED[0]], completion=[ASKED[1], *ASKED])
    example = chosen(given).example(given)
    assert (len(example.messages), example.completion) == (7, 4)


def test_a_preference_keeps_both_answers_behind_what_they_share() -> None:
    start, other = [SYSTEM, *ASKED, turn("user", "more")], turn("assistant", "b")
    given = row(chosen=[*start, ASKED[1]], rejected=[*start, other])
    example = chosen(given).example(given)
    assert (example.messages, example.rejected, example.completion) == ([*start, ASKED[1]], [other], 4)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"instruction": "q", "ouput": "a"},
            "no answer column: instruction, ouput\n  did you mean 'output' by 'ouput'?",
        ),
        ({"Question": "q", "Answer": "a"}, "did you mean 'question' by 'Question'?, did you mean 'answer'"),
        ({"url": "u"}, "a row needs instruction + output, question + answer, conversations, messages, prompt + comp"),
        (
            {"text": "t", "instruction": "q", "reply": "a"},
            "no answer column: text, instruction, reply\n  data.form",
        ),
        ({"text": "t", "ouput": "a"}, "did you mean 'output' by 'ouput'?"),
        ({}, "none"),
        ({"prompt": "q", "completion": "a", "messages": ASKED}, "fit messages or prompt_completion"),
        ({"question": "q", "answers": {"text": ["a"]}}, "did you mean 'answer' by 'answers'?"),
        ({"chosen": "a", "rejected": "b"}, "chosen and rejected answer no common prompt"),
        ({"prompt": "q", "chosen": 5, "rejected": "b"}, "chosen is a number, not text"),
        ({"chosen": ASKED, "rejected": [turn("user", "other"), ASKED[1]]}, "answer no common prompt"),
        ({"prompt": "q", "chosen": "a", "rejected": ASKED[:1]}, "rejected answer no common prompt"),
        ({"instruction": "q", "output": "a", "history": "x"}, "history is text, not a list"),
        ({"instruction": "q", "output": "a", "history": [["x"]]}, "history[0] is not a pair"),
        ({"instruction": "q", "output": "a", "history": [["x", None]]}, "history[0][1] is null, not text"),
        ({"instruction": "q", "output": True}, "output is true or false, not text"),
        ({"instruction": ["q"], "output": "a"}, "instruction is a list, not text"),
        ({"question": "q", "answer": "half \ud83d"}, "answer has half a character at position 5"),
        ({"text": 7}, "text is a number, not text"),
    ],
)
def test_a_row_that_cannot_be_used_is_explained(values: dict[str, Any], told: str) -> None:
    assert told in refused(row(**values))


def test_a_format_that_is_named_wins_over_what_the_columns_say() -> None:
    both = row(prompt="q", completion="a", messages=[turn("user", "other"), turn("assistant", "b")])
    assert chosen(both, "prompt_completion").example(both).messages == ASKED
    assert "instruction is missing; alpaca needs instruction + output" in refused(both, "alpaca")


def test_a_later_row_of_another_format_is_named() -> None:
    alpaca = chosen(row(instruction="q", output="a"))
    with pytest.raises(DataError, match="rows.jsonl, line 7: instruction is missing; alpaca needs") as caught:
        alpaca.example(row(question="q", answer="a"))
    assert (
        caught.value.hint
        == "the row looks like qa: set data.format=qa; if only some rows do, split the file, or set data.mixed=true"
    )
    with pytest.raises(DataError, match="output is null"):
        alpaca.example(row(instruction="q", output=None))


def test_a_format_can_be_handed_to_another_process() -> None:
    given = row(q="q", a="a")
    found = pickle.loads(pickle.dumps(chosen(given, question="{{ q }}", answer="a")))
    assert found.example(given).messages == ASKED


def made(messages: list[Message]) -> Example:
    return Example(row(), "messages", messages)


CALLING = {**turn("assistant", ""), "tool_calls": [{"id": "call00001"}]}


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        (made(ASKED), None),
        (made(ASKED * 2), None),
        (made([ASKED[0], CALLING]), None),
        (made([ASKED[0], turn("assistant", " \n")]), Dropped.EMPTY_ANSWER),
        (made([ASKED[0], turn("assistant", ""), *ASKED]), Dropped.EMPTY_ANSWER),
        (made([turn("user", " "), ASKED[1]]), Dropped.EMPTY_PROMPT),
        (made([SYSTEM, ASKED[1]]), Dropped.EMPTY_PROMPT),
        (Example(row(), "text", text="t"), None),
        (Example(row(), "text", text=" \n"), Dropped.EMPTY_ANSWER),
        (Example(row(), "python", fill=Fill("p", "m", "")), None),
        (Example(row(), "python", fill=Fill("p", "\n", "s")), Dropped.EMPTY_ANSWER),
        (Example(row(), "python", fill=Fill(" ", "m", "")), Dropped.EMPTY_PROMPT),
    ],
)
def test_rows_with_nothing_to_learn_have_a_reason(example: Example, reason: Dropped | None) -> None:
    assert reason_to_drop(example) is reason


@pytest.mark.parametrize(
    ("file", "name", "tools"),
    [
        ("gsm8k_train.jsonl", "qa", 0),
        ("gsm8k_test.jsonl", "qa", 0),
        ("alpaca_en_demo.json", "alpaca", 0),
        ("identity.json", "alpaca", 0),
        ("glaive_toolcall_en_demo.json", "conversations", 191),
        ("dpo_en_demo.json", "preference", 0),
        ("c4_demo.jsonl", "text", 0),
    ],
)
def test_public_data_is_recognised_and_every_row_converted(shared_data: Path, file: str, name: str, tools: int) -> None:
    written = (shared_data / file).read_text()
    values = json.loads(written) if file.endswith(".json") else [json.loads(line) for line in written.splitlines()]
    rows = [Row(value, file, number) for number, value in enumerate(values, 1)]
    found = chosen(rows[0])
    examples = [found.example(given) for given in rows]
    assert Counter(example.format for example in examples) == {name: len(rows)}
    assert {reason_to_drop(example) for example in examples} == {None}
    assert sum(bool(example.tools) for example in examples) == tools
    assert all(bool(example.rejected) == (name == "preference") for example in examples)


def test_the_schema_offers_every_format() -> None:
    choices = next(item.metadata["choices"] for item in fields(Data) if item.name == "format")
    assert set(choices) == {"auto", *FORMATS}
