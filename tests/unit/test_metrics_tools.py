"""Calls of tools are found as the chat templates of real families write them."""

from pathlib import Path
from typing import Any

import pytest

from families import CALL, FAMILIES, WEATHER, tokenizer, write
from pace import in_loops
from sft_runner.evaluation.metrics.tool_call import Call, calls, calls_equal, names_equal

WRITERS = ("llama-3.1", "mistral-v0.3", "qwen-2.5", "qwen-3", "granite-like", "gpt-oss", "glm-4.5", "lfm-2", "qwen-3.5")
"""Families whose templates write calls."""
SINGLE = ("llama-3.1", "gpt-oss")
"""Those that write one call a turn."""
SECOND: dict[str, Any] = {
    "id": "call00002",
    "type": "function",
    "function": {"name": "get-time.now", "arguments": {"zone": "+01:00", "opts": {"day": True, "parts": ["h", 2.5]}}},
}


def written(name: str, folder: Path, *made: dict[str, Any]) -> str:
    """What an answer with these calls reads like, without special tokens."""
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(write(name, folder))
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "", "tool_calls": list(made)}]
    asked = loaded.apply_chat_template(messages[:1], tools=[WEATHER], add_generation_prompt=True, tokenize=False)
    whole = loaded.apply_chat_template(messages, tools=[WEATHER], tokenize=False)
    start = len(asked) if whole.startswith(asked) else len(asked.removesuffix("<think>\n"))
    ids = tokenizer(name)(whole[start:], add_special_tokens=False)["input_ids"]
    return str(tokenizer(name).decode(ids, skip_special_tokens=True))


def test_all_families_that_write_calls_are_here() -> None:
    assert set(WRITERS) <= FAMILIES.keys()


@pytest.mark.parametrize("name", WRITERS)
def test_calls_as_a_family_writes_them(name: str, tmp_path: Path) -> None:
    one = Call("get_weather", {"city": "Zürich", "days": 3})
    assert calls(written(name, tmp_path, CALL)) == [one]
    if name not in SINGLE:
        other = Call("get_weather", {"city": "Rome", "days": 1})
        second = {**CALL, "id": "call00002", "function": {"name": "get_weather", "arguments": other.arguments}}
        text = written(name, tmp_path, CALL, second)
        assert calls(text) == [one, other]
        swapped = written(name, tmp_path, {**second, "id": "call00001"}, {**CALL, "id": "call00002"})
        assert calls_equal(swapped, text) is True
        assert calls_equal(written(name, tmp_path, CALL), text) is False


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "lfm-2"])
def test_nested_arguments(name: str, tmp_path: Path) -> None:
    made = SECOND if name != "gpt-oss" else {**SECOND, "function": {**SECOND["function"], "name": "get-time_now"}}
    text = written(name, tmp_path, made)
    assert calls_equal(text, text) is True
    (call,) = calls(text)
    assert (call.name, call.arguments["opts"]) == (made["function"]["name"], {"day": True, "parts": ["h", 2.5]})


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "f", "arguments": {"x": 1}}',
        '{"name": "f", "parameters": {"x": 1.0}}',
        '{"name": "f", "arguments": "{\\"x\\": 1}"}',
        'I will look.\n{"name": "f", "arguments": {"x": 1}}\nOne moment.',
        '```json\n{"arguments": {"x": 1}, "name": "f"}\n```',
        '<tool_call>\n{"name": "f", "arguments": {"x": 1}}',  # cut off
        '[{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\\"x\\": 1}"}}]',
        '{"tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]}',
        'Action: ```json\n[{"tool_name": "f", "parameters": {"x": 1}}]\n```',
        "[f(x=1)]",
        'f{"x": 1}',
        'f[ARGS]{"x": 1}',
        '[TOOL_CALLS] f[CALL_ID]abcd12345[ARGS] {"x": 1}',
    ],
)
def test_other_ways_to_write_the_same_call(text: str) -> None:
    expected = '<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>'
    assert names_equal(text, expected) is True
    assert calls_equal(text, expected) is True


@pytest.mark.parametrize(
    ("answer", "named", "argued"),
    [
        ('{"name": "f", "arguments": {"x": 2}}', True, False),
        ('{"name": "f", "arguments": {"x": true}}', True, False),
        ('{"name": "f", "arguments": {"x": 1, "y": 2}}', True, False),
        ('{"name": "f", "arguments": {}}', True, False),
        ('{"name": "f", "arguments": "x = 1"}', True, False),
        ('{"name": "g", "arguments": {"x": 1}}', False, False),
        ('{"name": "f", "arguments": {"x": 1}} {"name": "f", "arguments": {"x": 1}}', False, False),
        ("x is 1", False, False),
        ('{"name": "f", "arguments": {"x": 1}', False, False),
        ("", False, False),
        ('{"a":' * 5000, False, False),
        ("[" * 2500 + "]" * 2500, False, False),
        ("[" * 900 + "]" * 900, False, False),
        ('{"tool_calls":' * 900 + "1" + "}" * 900, False, False),
        ("[f(1)]", False, False),
        ('f {"x": 1}', False, False),
        ('to f{"x": 1}', False, False),
        ("[f(x=open('/etc/passwd'))]", False, False),
    ],
)
def test_calls_that_are_wrong(answer: str, named: bool, argued: bool) -> None:
    expected = '{"name": "f", "arguments": {"x": 1}}'
    assert names_equal(answer, expected) is named
    assert calls_equal(answer, expected) is argued


@pytest.mark.parametrize("expected", ["It is noon.", '{"name": "Bob", "age": 7}', "[1, 2]", "", "See [1] and {x}."])
def test_a_row_that_expects_no_call_does_not_count(expected: str) -> None:
    assert names_equal('{"name": "f", "arguments": {}}', expected) is None
    assert calls_equal(expected, expected) is None


def test_a_call_without_arguments() -> None:
    expected = '<tool_call>{"name": "clock"}</tool_call>'
    assert calls_equal('{"name": "clock", "arguments": {}}', expected) is True
    assert calls_equal("<tool_call>clock</tool_call>", expected) is True
    assert calls_equal("[clock()]", expected) is True


def test_several_calls_behind_their_names() -> None:
    """As Mistral's templates write them since v11, with their special tokens and without."""
    wanted = [Call("get_weather", {"city": "Rome"}), Call("clock", {})]
    assert calls('[TOOL_CALLS]get_weather[ARGS]{"city": "Rome"}[TOOL_CALLS]clock[ARGS]{}') == wanted
    assert calls('get_weather{"city": "Rome"}clock{}') == wanted
    assert calls('get_weather{"city": {"name": "Rome", "input": 1}}') == [
        Call("get_weather", {"city": {"name": "Rome", "input": 1}})
    ]


def test_calls_in_a_list_keep_their_order() -> None:
    names = [f"f{number}" for number in range(5)]
    text = ", ".join(f'[{{"name": "{name}", "arguments": {{}}}}]' for name in names)
    assert [call.name for call in calls(f"[{text}]")] == names


LOOP = "<arg_key></arg_key><arg_value>"


@pytest.mark.parametrize(
    "text", ["[", '{"a":', "[1,1,1,1,1,1,1,1,", "<tool_call>", "<function=f><parameter=a>", "f{", LOOP]
)
def test_answers_that_loop_take_no_time(text: str) -> None:
    looping = text * (20_000 // len(text))
    assert in_loops(lambda: calls(f"<tool_call>f{looping}" if text == LOOP else looping)) < 30


def test_real_rows(shared_data: Path) -> None:
    """Every call of the tool data is read, and is equal to itself and to no other one of another kind."""
    import json

    rows = json.loads((shared_data / "glaive_toolcall_en_demo.json").read_text(encoding="utf-8"))
    turns = [turn for row in rows for turn in row["conversations"]]
    texts = [turn["value"] for turn in turns if turn["from"] == "function_call"]
    assert len(texts) > 100
    for text in texts:
        value = json.loads(text)
        wanted = value if isinstance(value, list) else [value]
        assert [call.name for call in calls(text)] == [one["name"] for one in wanted]
        assert calls_equal(f"<tool_call>\n{text}\n</tool_call>", text) is True
    said = [turn["value"] for turn in turns if turn["from"] == "gpt"]
    assert not [text for text in said if calls(text)]
