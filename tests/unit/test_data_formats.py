"""Rows of every format become the messages that were meant, or an error that names the row."""

from typing import Any

import pytest

from conftest import SHARED
from sft_runner.config.schema import Data
from sft_runner.data.files import check
from sft_runner.data.formats import FORMATS, choose, reason_to_drop
from sft_runner.data.row import Dropped, Message, Row
from sft_runner.errors import DataError


def turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def row(**values: Any) -> Row:
    return Row(values, "rows.jsonl", 7)


def refused(given: Row, name: str = "auto") -> str:
    with pytest.raises(DataError) as caught:
        choose(name, given).messages(given)
    assert caught.value.message.startswith("data.path: rows.jsonl, line 7: ")
    return caught.value.show()


ASKED = [turn("user", "q"), turn("assistant", "a")]
CASES: list[tuple[str, dict[str, Any], list[Message]]] = [
    ("alpaca", {"instruction": "q", "output": "a"}, ASKED),
    ("alpaca", {"instruction": "q", "input": "", "output": "a", "history": []}, ASKED),
    ("alpaca", {"instruction": "q", "input": "i", "output": "a"}, [turn("user", "q\ni"), ASKED[1]]),
    ("alpaca", {"instruction": "q", "output": "a", "system": "s", "text": "t"}, [turn("system", "s"), *ASKED]),
    ("qa", {"question": "q", "answer": "a"}, ASKED),
    ("qa", {"question": "q", "answer": "a", "context": None, "messages": None}, ASKED),
    ("qa", {"question": "q", "answer": "a", "context": "c"}, [turn("user", "c\n\nq"), ASKED[1]]),
    ("prompt_completion", {"prompt": "q", "completion": "a"}, ASKED),
    ("prompt_completion", {"prompt": ASKED[:1], "completion": ASKED[1:]}, ASKED),
    ("chat", {"messages": ASKED}, ASKED),
    ("chat", {"messages": [turn("system", "s"), *ASKED], "system": "other"}, [turn("system", "s"), *ASKED]),
    (
        "chat",
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "system": "s", "tools": ""},
        [turn("system", "s"), *ASKED],
    ),
    ("chat", {"conversations": [{**t, "tool_calls": None} for t in ASKED * 2]}, ASKED * 2),
]


@pytest.mark.parametrize(("name", "values", "messages"), CASES)
def test_a_row_is_recognised_and_converted(name: str, values: dict[str, Any], messages: list[Message]) -> None:
    assert choose("auto", row(**values)).name == name
    assert choose(name, row(**values)).messages(row(**values)) == messages


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"instruction": "q", "ouput": "a"},
            "no answer column: instruction, ouput\n  did you mean 'output' by 'ouput'?",
        ),
        ({"Question": "q", "Answer": "a"}, "did you mean 'question' by 'Question'?, did you mean 'answer'"),
        (
            {"url": "u", "text": "t"},
            "a row needs instruction + output, question + answer, prompt + completion, messages",
        ),
        ({}, "none"),
        ({"prompt": "q", "completion": "a", "messages": ASKED}, "fit prompt_completion or chat"),
        ({"conversations": ASKED[:1], "chosen": {}, "rejected": {}}, "preference data"),
        ({"instruction": "q", "output": "a", "history": [["x", "y"]]}, "history is not read"),
        ({"instruction": "q", "output": True}, "output is true or false, not text"),
        ({"instruction": ["q"], "output": "a"}, "instruction is a list, not text"),
        ({"messages": "hello"}, "messages is text, not a list"),
        ({"messages": ["hello"]}, "messages[0] is text, not a message"),
        ({"messages": [{"content": "hello"}]}, "messages[0] has no role"),
        ({"messages": [turn("user", "q"), {"role": "assistant"}]}, "messages[1].content is null"),
        ({"messages": [turn("user", "q"), turn("tool", "a")]}, "messages[1] has the role 'tool'"),
        ({"messages": [*ASKED, ASKED[1]]}, "messages[2] is a second assistant turn in a row"),
        ({"messages": [ASKED[0], {**ASKED[1], "weight": 0}]}, "messages[1].weight is not read"),
        ({"messages": [ASKED[0], {**ASKED[1], "tool_calls": [{}]}]}, "messages[1].tool_calls is not read"),
        ({"messages": ASKED, "tools": [{}]}, "tools is not read"),
    ],
)
def test_a_row_that_cannot_be_used_is_explained(values: dict[str, Any], told: str) -> None:
    assert told in refused(row(**values))


def test_a_format_that_is_named_wins_over_what_the_columns_say() -> None:
    both = row(prompt="q", completion="a", messages=[turn("user", "other"), turn("assistant", "b")])
    assert choose("prompt_completion", both).messages(both) == ASKED
    assert "instruction is missing; alpaca needs instruction + output" in refused(both, "alpaca")


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (ASKED, None),
        (ASKED * 2, None),
        ([*ASKED, turn("user", "more")], Dropped.ENDS_WITH_USER),
        ([turn("user", "q"), turn("assistant", " \n")], Dropped.EMPTY_ANSWER),
        ([turn("user", "q"), turn("assistant", ""), *ASKED], Dropped.EMPTY_ANSWER),
        ([turn("user", " "), turn("assistant", "a")], Dropped.EMPTY_PROMPT),
        ([turn("system", "s"), turn("assistant", "a")], Dropped.EMPTY_PROMPT),
        ([], Dropped.EMPTY_PROMPT),
    ],
)
def test_rows_with_nothing_to_learn_have_a_reason(messages: list[Message], reason: Dropped | None) -> None:
    assert reason_to_drop(messages) is reason


@pytest.mark.skipif(not SHARED.is_dir(), reason="the data beside the checkout is not there")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gsm8k_train.jsonl", None),
        ("gsm8k_test.jsonl", None),
        ("alpaca_en_demo.json", None),
        ("identity.json", None),
        ("glaive_toolcall_en_demo.json", "row 1: conversations[3] has the role 'function_call'"),
        ("dpo_en_demo.json", "row 1: the column chosen makes it preference data"),
        ("c4_demo.jsonl", "line 1: no format has these columns: text"),
    ],
)
def test_public_data_is_recognised_or_refused_by_name(name: str, told: str | None) -> None:
    data = Data(path=str(SHARED / "data" / name))
    if told is None:
        check(data)
        return
    with pytest.raises(DataError) as caught:
        check(data)
    assert told in caught.value.message


def test_the_schema_offers_every_format() -> None:
    from dataclasses import fields

    choices = next(item.metadata["choices"] for item in fields(Data) if item.name == "format")
    assert set(choices) == {"auto", *FORMATS}
