"""Turns, tool calls and agent steps become one kind of messages, or an error that names the turn."""

import json
from typing import Any

import pytest

from format_rows import ASKED, chosen, refused, row, turn
from sft_runner.data.row import Example, Message

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION = {"name": "weather", "description": "d", "parameters": SCHEMA}
TOOL = {"type": "function", "function": FUNCTION}
PARIS = {"name": "weather", "arguments": {"city": "Paris"}}


def share(role: str, value: Any) -> dict[str, Any]:
    return {"from": role, "value": value}


def call(name: str = "weather", id: str = "call00001", **arguments: Any) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls: dict[str, Any], content: str = "") -> Message:
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


def result(content: str, id: str = "call00001", name: str = "weather") -> Message:
    return {"role": "tool", "content": content, "tool_call_id": id, "name": name}


def read(turns: Any, **columns: Any) -> Example:
    given = row(messages=turns, **columns)
    return chosen(given).example(given)


Q, A = ASKED
LOOKED_UP = [Q, calling(call(city="Paris")), result("sunny"), A]
AGENT: list[tuple[str, list[dict[str, Any]], list[Message]]] = [
    (
        "ShareGPT",
        [
            share("human", "q"),
            share("function_call", json.dumps(PARIS)),
            share("observation", "sunny"),
            share("gpt", "a"),
        ],
        LOOKED_UP,
    ),
    (
        "arguments as text, and the other words",
        [Q, turn("function_call", json.dumps({**PARIS, "arguments": '{"city": "Paris"}'})), turn("tool", "sunny"), A],
        LOOKED_UP,
    ),
    (
        "OpenAI with its own ids",
        [
            Q,
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [call(id="x", city="Paris"), call(id="y", city="Rome")],
            },
            {"role": "tool", "tool_call_id": "y", "content": "rain"},
            {"role": "tool", "tool_call_id": "x", "content": "sunny"},
            A,
        ],
        [
            Q,
            calling(call(id="x", city="Paris"), call(id="y", city="Rome")),
            result("rain", "y"),
            result("sunny", "x"),
            A,
        ],
    ),
    (
        "OpenAI's older words",
        [
            Q,
            {"role": "assistant", "content": None, "function_call": {**PARIS, "arguments": '{"city": "Paris"}'}},
            {"role": "function", "name": "weather", "content": "sunny"},
            A,
        ],
        LOOKED_UP,
    ),
    (
        "parallel calls in one turn",
        [share("human", "q"), share("function_call", json.dumps([PARIS, {"name": "time"}]))]
        + [share("observation", {"sky": "blue"}), share("observation", "noon"), share("gpt", "a")],
        [
            Q,
            calling(call(city="Paris"), call("time", "call00002")),
            result('{"sky": "blue"}'),
            result("noon", "call00002", "time"),
            A,
        ],
    ),
    (
        "a turn that is written in parts",
        [share("human", "q"), share("gpt", "let me see"), share("function_call", json.dumps(PARIS))]
        + [share("function_call", json.dumps({"name": "time", "parameters": {"zone": 1}}))],
        [Q, calling(call(city="Paris"), call("time", "call00002", zone=1), content="let me see")],
    ),
    (
        "results by the name of the function",
        [
            Q,
            {"role": "assistant", "content": "", "tool_calls": [call(city="Paris"), call("time", "call00002")]},
            {"role": "tool", "name": "time", "content": "noon"},
            {"role": "tool", "name": "weather", "content": "sunny"},
            A,
        ],
        [
            Q,
            calling(call(city="Paris"), call("time", "call00002")),
            result("noon", "call00002", "time"),
            result("sunny"),
            A,
        ],
    ),
]


@pytest.mark.parametrize(("turns", "messages"), [case[1:] for case in AGENT], ids=[case[0] for case in AGENT])
def test_tool_calls_have_one_shape(turns: list[dict[str, Any]], messages: list[Message]) -> None:
    assert read(turns).messages == messages


@pytest.mark.parametrize(
    "written",
    [
        [TOOL],
        [FUNCTION],
        TOOL,
        json.dumps([FUNCTION]),
        json.dumps([TOOL]),
        json.dumps(FUNCTION, indent=4) + "\n",
        [json.dumps(TOOL)],
        [{"type": "function", **FUNCTION}],
    ],
)
@pytest.mark.parametrize("column", ["tools", "functions"])
def test_tools_have_one_shape(column: str, written: Any) -> None:
    assert read(ASKED, **{column: written}).tools == [TOOL]


def test_objects_one_after_the_other_are_several_tools() -> None:
    other = {"name": "time"}
    assert read(ASKED, tools=f"{json.dumps(FUNCTION)}\n\n{json.dumps(other)}\n").tools == [
        TOOL,
        {"type": "function", "function": other},
    ]


@pytest.mark.parametrize("written", ["", "[]", [], None])
def test_no_tools(written: Any) -> None:
    assert read(ASKED, tools=written).tools == []


@pytest.mark.parametrize(
    ("more", "untrained"),
    [
        ({"weight": 0}, {1}),
        ({"weight": 0.0}, {1}),
        ({"train": False}, {1}),
        ({"weight": 1}, set()),
        ({"train": True, "weight": None}, set()),
        ({"name": "bob"}, set()),
    ],
)
def test_a_turn_may_say_that_it_is_not_trained(more: dict[str, Any], untrained: set[int]) -> None:
    assert read([Q, {**A, **more}, *ASKED]).untrained == untrained


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_is_kept_apart(key: str) -> None:
    assert read([Q, {**A, key: "hm"}]).messages[1] == {**A, "reasoning_content": "hm"}
    assert read([Q, {**A, key: ""}]).messages[1] == A


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert read([{"role": "user", "content": parts}, A]).messages[0]["content"] == "one\ntwo"


WEATHER = {"thought": "look", "action": "weather", "input": {"city": "Paris"}}
SEEN = {"observation": "sunny"}
DONE = {"thought": "found", "action": "finish", "input": {"answer": "a"}}


@pytest.mark.parametrize(
    ("steps", "messages"),
    [
        (
            [WEATHER, SEEN, DONE],
            [
                Q,
                {**calling(call(city="Paris")), "reasoning_content": "look"},
                result("sunny"),
                {**A, "reasoning_content": "found"},
            ],
        ),
        (
            [{**WEATHER, **SEEN, "thought": ""}, {"action": "Finish", "input": "a", "observation": ""}],
            LOOKED_UP,
        ),
        (
            [{"action": "search", "input": "news"}, {"observation": {"hits": 1}}, {"thought": "a"}],
            [Q, calling(call("search", input="news")), result('{"hits": 1}', name="search"), A],
        ),
        ([{"action": "search", "action_input": '{"q": 1}'}], [Q, calling(call("search", q=1))]),
    ],
)
@pytest.mark.parametrize(("task", "column"), [("task", "trajectory"), ("query", "steps")])
def test_agent_steps_become_tool_calls(
    task: str, column: str, steps: list[dict[str, Any]], messages: list[Message]
) -> None:
    given = row(**{task: "q", column: steps}, tools=[TOOL])
    example = chosen(given).example(given)
    assert (example.format, example.messages, example.tools) == ("trajectory", messages, [TOOL])
    assert example.completion == 1


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ("look", "trajectory is text, not a list of steps"),
        ([], "trajectory is an empty list"),
        (["look"], "trajectory[0] is text, not a step"),
        ([{"note": "x"}], "trajectory[0] has no thought, action or observation"),
        ([SEEN], "trajectory[0] is a tool's result without a call"),
        ([WEATHER, SEEN], "the conversation ends with tool"),
        ([DONE, WEATHER], "trajectory[0] finishes, but more steps follow"),
        ([{**DONE, "input": {}}], "trajectory[0].input.answer is null, not text"),
        ([{**WEATHER, "input": [1]}], "trajectory[0].arguments is a list, not an object"),
        ([{**WEATHER, "action": 5}], "trajectory[0].action is a number, not text"),
        ([{"thought": "x"}, WEATHER], "trajectory[1] is a second assistant turn in a row"),
    ],
)
def test_steps_that_cannot_be_used_are_explained(steps: Any, told: str) -> None:
    assert told in refused(row(task="q", trajectory=steps))


CALLED = [Q, {"role": "assistant", "content": None, "tool_calls": [PARIS]}]


@pytest.mark.parametrize(
    ("turns", "told"),
    [
        ("hello", "messages is text, not a list of messages"),
        ("[hello]", "messages is not JSON: Expecting value"),
        ([], "messages is an empty list"),
        (["hello"], "messages[0] is text, not a message"),
        ([{"content": "hello"}], "messages[0] has no role"),
        ([Q, {"role": "assistant"}], "messages[1].content is null"),
        ([Q, turn("asistant", "a")], "messages[1] has the role 'asistant'\n  did you mean 'assistant'?"),
        ([share("User", "q"), share("gpt", "a")], "messages[0] has the role 'User'\n  did you mean 'user'?"),
        ([Q, turn("pirate", "a")], "messages[1] has the role 'pirate'\n  roles are system, user (human)"),
        ([*ASKED, A], "messages[2] is a second assistant turn in a row"),
        ([turn("system", "s"), turn("system", "t"), *ASKED], "messages[1] is a second system text"),
        ([*ASKED, Q], "ends with user, not with an assistant turn\n  complete the row; data.bad_rows=drop"),
        ([turn("system", "s")], "the conversation ends with system"),
        ([Q, turn("tool", "x"), A], "messages[1] is a tool's result without a call"),
        ([*CALLED, turn("tool", "x")], "the conversation ends with tool"),
        ([*CALLED, turn("tool", "x"), turn("tool", "y"), A], "messages[3] is a tool's result without a call"),
        (
            [*CALLED, {**turn("tool", "x"), "tool_call_id": "z"}, A],
            "result for 'z' without a call\n  it must follow the call that it answers; calls without a result: weather",
        ),
        ([*CALLED, {**turn("tool", "x"), "name": "time"}, A], "messages[2] is a tool's result for 'time' without"),
        (
            [share("human", "q"), share("function_call", "weather(Paris)")],
            "messages[1].value is not JSON: Expecting value",
        ),
        ([share("human", "q"), share("function_call", "[" * 100_000)], "not readable as JSON: nested too deeply"),
        ([share("human", "q"), share("function_call", "{}")], "messages[1].value names no function"),
        ([share("human", "q"), share("function_call", "5")], "messages[1].value is a number, not a list of calls"),
        (
            [Q, {**A, "tool_calls": [{"name": "f", "arguments": "x"}]}],
            "messages[1].tool_calls[0].arguments is not JSON",
        ),
        ([Q, {**A, "tool_calls": [{"name": "f", "arguments": [1]}]}], "arguments is a list, not an object"),
        ([Q, {**A, "tool_calls": [{"type": "search"}]}], "messages[1].tool_calls[0].type is 'search'"),
        ([{**Q, "tool_calls": [PARIS]}, A], "messages[0].tool_calls stands in a user turn"),
        ([Q, {**A, "weight": 0.5}], "messages[1].weight is 0.5"),
        ([Q, {**A, "weight": True}], "messages[1].weight is True"),
        ([Q, {**A, "train": "no"}], "messages[1].train is 'no'"),
        ([{**Q, "train": True}, A], "messages[0] asks to be trained, but it is a user turn"),
        ([Q, {**A, "refusal": "no"}], "messages[1].refusal is not read"),
        ([Q, {**A, "thinking": 5}], "messages[1].thinking is a number, not text"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "image_url", "image_url": {}}]}, A],
            "messages[0].content[1] is a part of type 'image_url', not a text part",
        ),
        ([{"role": "user", "content": ["q"]}, A], "messages[0].content[0] is text, not a text part"),
        (
            [share("human", "q"), share("function_call", '{"name": "f", "args": {"x": 1}}')],
            "has args, no arguments",
        ),
        ([Q, {**A, "tool_calls": [{"name": "f", "arguments": []}]}], "arguments is a list, not an object"),
        ([{"role": "user", "content": []}, A], "messages[0].content is a list, not text"),
    ],
)
def test_turns_that_cannot_be_used_are_explained(turns: Any, told: str) -> None:
    assert told in refused(row(messages=turns))


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"tools": "weather"}, "tools is not JSON: Expecting value"),
        ({"tools": [5]}, "tools[0] is a number, not a tool"),
        ({"tools": [{"description": "d"}]}, "tools[0] names no function"),
        ({"tools": [{"type": "web_search", "name": "x"}]}, "tools[0].type is 'web_search'"),
        ({"tools": [{"name": "f", "parameters": "x"}]}, "tools[0].parameters is text, not an object"),
        ({"system": "other"}, "messages[0] is a second system text"),
        ({"images": ["a.png"]}, "the column images is not read"),
    ],
)
def test_columns_beside_a_conversation_that_cannot_be_used_are_explained(columns: dict[str, Any], told: str) -> None:
    assert told in refused(row(messages=[turn("system", "s"), *ASKED], **columns))
