"""Templates that write the past otherwise: no prompt is trained, and what a server would not send is told or mended."""

from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from families import CALL, WEATHER, chat, one, trained, write
from sft_runner.config.schema import Data
from sft_runner.data import formats
from sft_runner.data.row import Dropped, Example, Message, Row
from sft_runner.data.sources import Source
from sft_runner.data.template import ChatTemplate, Encoded, Renderer
from sft_runner.errors import DataError

RESULT = {"role": "tool", "content": '{"sky": "blue"}', "tool_call_id": "call00001", "name": "get_weather"}
ROW = Row({}, "rows.jsonl", 7)


def looked_up(*thoughts: str) -> list[Message]:
    """A question, a call, its result and an answer, with the assistant's thoughts in order."""
    turns: list[Message] = [
        {"role": "user", "content": "How is it?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        RESULT,
        {"role": "assistant", "content": "Blue."},
    ]
    for place, thought in zip((1, 3), thoughts, strict=False):
        turns[place] = {**turns[place], "reasoning_content": thought}
    return turns


def thinking(*thoughts: str) -> list[Message]:
    """A question and an answer for each thought."""
    turns = chat(*(text for i in range(1, len(thoughts) + 1) for text in (f"q{i}\nsecret", f"a{i}")))
    for place, thought in enumerate(thoughts):
        turns[2 * place + 1]["reasoning_content"] = thought
    return turns


def rows(template: ChatTemplate, messages: list[Message], tools: list[Any] | None = None) -> list[Encoded]:
    (found,) = template.encode([Example(ROW, "messages", messages, tools or [])])
    assert isinstance(found, list)
    return found


def served(template: ChatTemplate, messages: list[Message], tools: list[Any] | None = None) -> list[int]:
    """What a server starts to answer from."""
    return Renderer(template.tokenizer).prompt_ids(messages, tools or [])


LAST_THOUGHT = """{{- bos_token }}{%- for m in messages %}
{%- if m.role == "user" %}{{- USER + m.content }}{%- else %}{{- ASSISTANT }}
{%- if loop.last %}{{- "<think>\\n" + (m.reasoning_content or "") + "\\n</think>\\n\\n" }}{%- endif %}
{{- m.content + eos_token }}{%- endif %}
{%- endfor %}{%- if add_generation_prompt %}{{- ASSISTANT + "<think>\\n" }}{%- endif %}"""


def last_thought(user: str, assistant: str) -> str:
    return LAST_THOUGHT.replace("USER", repr(user)).replace("ASSISTANT", repr(assistant))


def test_marks_that_are_not_special_part_turns(tmp_path: Path) -> None:
    folder = write("r1-distill", tmp_path, last_thought("<｜User｜>", "<｜Assistant｜>"))
    end = "<｜end▁of▁sentence｜>"
    template = ChatTemplate(folder, Data())
    encoded = one(template, thinking("t1", "t2"))
    assert trained(template, encoded) == [f"a1{end}", f"t2\n</think>\n\na2{end}"]
    assert encoded.drifted
    keep = ChatTemplate(folder, Data(reasoning="keep"))
    assert [trained(keep, part) for part in rows(keep, thinking("t1", "t2"))] == [
        [f"t1\n</think>\n\na1{end}"],
        [f"t2\n</think>\n\na2{end}"],
    ]
    for mark in ("<｜User｜>", "<｜Assistant｜>"):
        assert template.encode([Example(ROW, "messages", chat(f"a{mark}b", "c"))]) == [Dropped.SPECIAL_TOKEN]
    assert len(rows(template, chat("What does <think> do?", "It opens </think>."))) == 1


def test_turns_without_any_mark_are_not_guessed(tmp_path: Path) -> None:
    template = ChatTemplate(write("r1-distill", tmp_path, last_thought("\nUser: ", "\nAssistant: ")), Data())
    assert len(rows(template, thinking("t1"))) == 1
    with pytest.raises(DataError, match=r"line 7: .* otherwise than it writes it: a server sends") as caught:
        rows(template, thinking("t1", "t2"))
    assert caught.value.hint.startswith("set data.reasoning=keep, or ")


def test_earlier_answers_of_a_server_prompt_keep_its_opening_out(tmp_path: Path) -> None:
    """The prompt opens `<think>`, earlier answers have it too: it is the prompt's there as well."""
    always = last_thought("<｜User｜>", "<｜Assistant｜>").replace("if loop.last", "if m.reasoning_content")
    template = ChatTemplate(write("r1-distill", tmp_path, always), Data())
    encoded = one(template, thinking("t1", "t2"))
    assert [text.split("\n")[0] for text in trained(template, encoded)] == ["t1", "t2"]
    assert not encoded.drifted


NO_THINK = {"chat_template_kwargs": {"enable_thinking": False}}


@pytest.mark.parametrize(
    ("family", "of", "messages", "tools", "drifted"),
    [
        ("chatml", {}, chat("a", "b", "c", "d"), [], False),
        ("qwen-3", {}, chat("a", "b", "c", "d"), [], False),
        ("qwen-3", {}, looked_up("t1", "t2"), [WEATHER], False),
        ("qwen-3", {}, [*looked_up("t1", "t2"), *chat("c", "d")], [WEATHER], True),
        ("qwen-3", NO_THINK, chat("a", "b", "c", "d"), [], True),
        ("qwen-3", NO_THINK, chat("a", "b"), [], False),
        ("qwen-3", {**NO_THINK, "train_on": "last"}, chat("a", "b", "c", "d"), [], False),
        ("qwen-3.5", {}, chat("a", "b", "c", "d"), [], True),
        ("qwen-3.5", {"train_on": "all"}, chat("a", "b", "c", "d"), [], True),
        ("mistral-v0.3", {}, chat("a", "b", "c", "d"), [], False),
        ("mistral-v0.3", {}, looked_up(), [WEATHER], False),
        ("mistral-v0.3", {}, [*looked_up(), *chat("c", "d")], [WEATHER], True),
        ("llama-3.1", {}, [*looked_up(), *chat("c", "d")], [WEATHER], False),
    ],
)
def test_an_answer_behind_another_prompt_is_told_and_mended_by_keep(
    tmp_path: Path, family: str, of: dict[str, Any], messages: list[Message], tools: list[Any], drifted: bool
) -> None:
    template = ChatTemplate(write(family, tmp_path), Data(**of))
    assert one(template, messages, tools).drifted == drifted
    keep = ChatTemplate(tmp_path, Data(**{**of, "reasoning": "keep"}))
    found = rows(keep, messages, tools)
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if not drifted and of.get("train_on") != "last":
        assert len(found) == 1
        return
    assert len(found) == (1 if of.get("train_on") == "last" else len(answers))
    for index, part in zip(answers[-len(found) :], found, strict=True):
        assert part.messages == messages[: index + 1]
        assert part.input_ids[: part.prompt_length] == served(keep, messages[:index], tools)
        assert len(trained(keep, part)) == 1
        assert not part.drifted


def test_an_answer_whose_thoughts_vanish_is_put_behind_the_prompt_with_them(tmp_path: Path) -> None:
    """gpt-oss drops the analysis of a call as soon as a final answer follows, which no server could know."""
    folder = write("gpt-oss", tmp_path)
    with pytest.raises(DataError, match="line 7: .* a server sends .*analysis") as caught:
        one(ChatTemplate(folder, Data()), looked_up("t1", "t2"), [WEATHER])
    assert caught.value.hint.startswith("set data.reasoning=keep, or set data.reasoning=drop, or ")
    keep = ChatTemplate(folder, Data(reasoning="keep"))
    found = rows(keep, looked_up("t1", "t2"), [WEATHER])
    channel = "<|channel|>analysis<|message|>"
    assert [trained(keep, part) for part in found] == [
        [
            f"{channel}t1<|end|><|start|>assistant to=functions.get_weather<|channel|>commentary json<|message|>"
            '{"city": "Zürich", "days": 3}<|call|>'
        ],
        [f"{channel}t2<|end|><|start|>assistant<|channel|>final<|message|>Blue.<|return|>"],
    ]
    assert found[1].input_ids[: found[1].prompt_length] == served(keep, looked_up("t1", "t2")[:3], [WEATHER])
    assert len(rows(ChatTemplate(folder, Data(reasoning="drop")), looked_up("t1", "t2"), [WEATHER])) == 1


def test_keep_learns_system_text_that_finished_conversations_lose(tmp_path: Path) -> None:
    keep = ChatTemplate(write("mistral-v0.3", tmp_path), Data(reasoning="keep"))
    encoded = one(keep, chat("a", "b", system="Be kind."))
    assert keep.tokenizer.decode(encoded.input_ids) == "<s>[INST] Be kind.\n\na[/INST] b</s>"
    assert trained(keep, encoded) == [" b</s>"]


@pytest.mark.parametrize(
    ("family", "answer"),
    [
        ("gpt-oss", "<|channel|>analysis<|message|>t1<|end|><|start|>assistant<|channel|>final<|message|>a1<|return|>"),
        ("qwen-3.5", "t1\n</think>\n\na1<|im_end|>"),
        ("qwen-3", "<think>\nt1\n</think>\n\na1<|im_end|>"),
        ("chatml", "<think>t1</think>a1<|im_end|>"),
    ],
)
def test_thoughts_in_the_content_go_where_the_template_has_a_place(tmp_path: Path, family: str, answer: str) -> None:
    template = ChatTemplate(write(family, tmp_path), Data())
    encoded = one(template, chat("q1", "<think>t1</think>a1"))
    assert trained(template, encoded) == [answer]
    said = {"content": "<think>t1</think>a1"} if family == "chatml" else {"content": "a1", "reasoning_content": "t1"}
    assert encoded.messages[1] == {"role": "assistant", **said}


@pytest.mark.parametrize("family", ["qwen-2.5", "cohere-2", "llama-3.1"])
def test_thoughts_without_a_place_are_refused(tmp_path: Path, family: str) -> None:
    template = ChatTemplate(write(family, tmp_path), Data())
    for messages, which in ((thinking("t1"), "the last"), ([*thinking("t1"), *chat("q2", "a2")], "an earlier")):
        with pytest.raises(DataError, match=f"line 7: .* no place for the reasoning of {which} answer") as caught:
            one(template, messages)
        assert caught.value.hint.startswith("set data.reasoning=drop, or ")


def agent() -> Example:
    """An agent's row, as it is read."""
    steps = [
        {"thought": "I must look.", "action": "get_weather", "input": {"city": "Zürich", "days": 3}},
        {"observation": '{"sky": "blue"}'},
        {"thought": "Now I know.", "action": "finish", "input": "Blue."},
    ]
    row = Row({"task": "How is it?", "trajectory": steps, "tools": [WEATHER]}, "rows.jsonl", 7)
    return formats.choose(Source("rows", "rows.jsonl"), row).example(row)


QWEN_CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich", "days": 3}}\n</tool_call><|im_end|>'


@pytest.mark.parametrize(
    ("family", "call", "answer"),
    [
        ("qwen-2.5", f"I must look.\n{QWEN_CALL}", "Now I know.\n\nBlue.<|im_end|>"),
        (
            "qwen-3",
            f"<think>\nI must look.\n</think>\n\n{QWEN_CALL}",
            "<think>\nNow I know.\n</think>\n\nBlue.<|im_end|>",
        ),
        (
            "tiny",
            f"<think>\nI must look.\n</think>\n\n\n{QWEN_CALL.replace('<|im_end|>', '')}<|im_end|>",
            "<think>\nNow I know.\n</think>\n\nBlue.<|im_end|>",
        ),
    ],
)
def test_an_agents_thoughts(tmp_path: Path, family: str, call: str, answer: str) -> None:
    tiny = files("sft_runner").joinpath("embedded/tiny/chat_template.jinja").read_text(encoding="utf-8")
    folder = write("chatml", tmp_path, tiny) if family == "tiny" else write(family, tmp_path)
    template = ChatTemplate(folder, Data())
    (found,) = template.encode([agent()])
    assert isinstance(found, list)
    assert trained(template, found[0]) == [call, answer]


@pytest.mark.parametrize("family", ["llama-3.1", "mistral-v0.3"])
def test_an_agents_thoughts_where_calls_stand_alone(tmp_path: Path, family: str) -> None:
    with pytest.raises(DataError, match=r"no place for the assistant message 'I must look\.'") as caught:
        ChatTemplate(write(family, tmp_path), Data()).encode([agent()])
    assert caught.value.hint.startswith("set data.reasoning=drop, or ")
    template = ChatTemplate(tmp_path, Data(reasoning="drop"))
    (found,) = template.encode([agent()])
    assert isinstance(found, list)
    assert "Blue." in trained(template, found[0])[1]


def calls(*arguments: dict[str, Any], name: str = "get_weather") -> list[Message]:
    made = [{**CALL, "id": f"call0000{i}", "function": {"name": name, "arguments": values}} for i, values in enumerate(arguments, 1)]  # fmt: skip  # noqa: E501
    return [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": made}]


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (({"days": 3}, {"days": 3}), "each of the 2 calls of get_weather"),
        (({"days": 12}, {"days": 1}), "the argument '1' of a call of get_weather"),
        (({"city": "get_weather"}, {"city": "get_weather"}), "each of the 2 calls of get_weather"),
        (({"days": 13}, {"days": -13}), "the argument '-13' of a call of get_weather"),
        (({"days": -13}, {"days": 13}), "the argument '13' of a call of get_weather"),
    ],
)
def test_a_call_that_is_left_out_is_told(tmp_path: Path, arguments: tuple[dict[str, Any], ...], missing: str) -> None:
    messages = calls(*arguments)
    with pytest.raises(DataError, match=f"line 7: the chat template has no place for {missing}"):
        one(ChatTemplate(write("gpt-oss", tmp_path / "oss"), Data()), messages, [WEATHER])
    template = ChatTemplate(write("qwen-2.5", tmp_path / "qwen"), Data())
    (text,) = trained(template, one(template, messages, [WEATHER]))
    assert text.count("<tool_call>") == 2


@pytest.mark.parametrize("family", ["lfm-2", "qwen-3", "gpt-oss", "llama-3.1", "granite-like", "qwen-3.5"])
def test_arguments_in_the_words_of_json_or_python(tmp_path: Path, family: str) -> None:
    template = ChatTemplate(write(family, tmp_path), Data())
    values = {
        "s": 'it\'s "q"\nline',
        "b": True,
        "n": None,
        "f": 1e-7,
        "i": -3,
        "l": [1, 'a"b'],
        "o": {"k": "é"},
        "e": "",
    }
    assert len(trained(template, one(template, calls(values), [WEATHER]))) == 1


def test_a_tool_without_a_description(tmp_path: Path) -> None:
    bare = deepcopy(WEATHER)
    del bare["function"]["description"]
    messages = looked_up()
    oss = ChatTemplate(write("gpt-oss", tmp_path / "oss"), Data())
    encoded = one(oss, messages, [bare])
    assert "type get_weather = (_: {" in oss.tokenizer.decode(encoded.input_ids)
    assert encoded.input_ids[: encoded.prompt_length] == served(oss, messages[:-1], [bare])
    qwen = ChatTemplate(write("qwen-2.5", tmp_path / "qwen"), Data())
    ids = one(qwen, messages, [bare]).input_ids
    assert ids == qwen.tokenizer.apply_chat_template(messages, tools=[bare], return_dict=False)
    assert "description" not in qwen.tokenizer.decode(ids)


def test_a_turn_that_only_the_next_role_ends(tmp_path: Path) -> None:
    template = ChatTemplate(write("glm-4.5", tmp_path), Data())
    messages = [*looked_up(), *chat("Thanks", "Welcome.")]
    encoded = one(template, messages, [WEATHER])
    found = trained(template, encoded)
    assert found[0].endswith("</tool_call><|observation|>")
    assert found[1:] == ["\n<think></think>\nBlue.<|user|>", "\n<think></think>\nWelcome.<|user|>"]
    assert encoded.input_ids[:-1] == template.tokenizer.apply_chat_template(
        messages, tools=[WEATHER], return_dict=False
    )
    keep = ChatTemplate(tmp_path, Data(reasoning="keep"))
    found = [text for part in rows(keep, looked_up("t1", "t2"), [WEATHER]) for text in trained(keep, part)]
    assert [text.split("</think>")[0] for text in found] == ["\n<think>t1", "\n<think>t2"]
    assert [text[-17:] for text in found] == ["l><|observation|>", "nk>\nBlue.<|user|>"]


def test_a_result_is_never_part_of_the_call(tmp_path: Path) -> None:
    open_calls = (
        "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content }}"
        "{%- for call in m.tool_calls or [] %}{{- call.function | tojson }}{%- endfor %}"
        "{{- '' if m.tool_calls else '<|im_end|>' }}{%- endfor %}"
        "{%- if tools %}{{- tools | tojson }}{%- endif %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
    )
    template = ChatTemplate(write("chatml", tmp_path, open_calls), Data())
    with pytest.raises(DataError, match="line 7: the chat template does not end an answer before what follows"):
        one(template, looked_up())


def test_a_switch_that_helps_is_named(tmp_path: Path) -> None:
    switch = (
        "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}"
        "{{- ('</think>' if m.role == 'assistant' else '') + m.content + '<|im_end|>' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
        "{{- '<think>' if thinking | default(true) else '</think>' }}{%- endif %}"
    )
    folder = write("chatml", tmp_path, switch)
    with pytest.raises(DataError, match="a server sends") as caught:
        one(ChatTemplate(folder, Data()), chat("a", "b"))
    assert caught.value.hint.startswith("set data.chat_template_kwargs={thinking: false}, or ")
    template = ChatTemplate(folder, Data(chat_template_kwargs={"thinking": False}))
    assert trained(template, one(template, chat("a", "b"))) == ["b<|im_end|>"]
