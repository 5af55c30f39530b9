"""For each family of models: ids are those of the template, and exactly the answers with their ends are trained."""

from pathlib import Path

import pytest

from families import CALL, FAMILIES, ODD, WEATHER, chat, one, trained, write
from sft_runner.config.schema import Data
from sft_runner.data.row import Dropped, Example, Message, Row, Tool
from sft_runner.data.template import IGNORED, ChatTemplate
from sft_runner.errors import DataError

RESULT = {"role": "tool", "content": '{"sky": "blue"}', "tool_call_id": "call00001", "name": "get_weather"}
ENDS = {
    "llama-3.1": "<|eot_id|>",
    "llama-3.2": "<|eot_id|>",
    "mistral-v0.3": "</s>",
    "gemma-2": "<end_of_turn>",
    "gemma-3": "<end_of_turn>",
    "phi-3": "<|end|>",
    "zephyr": "</s>",
    "granite-like": "<|end_of_text|>",
    "cohere-2": "<|END_RESPONSE|><|END_OF_TURN_TOKEN|>",
}
"""What ends an answer; `<|im_end|>` with the others."""
AFTER_THOUGHT = "<think>\n\n</think>\n\n"
CALLS = {
    "llama-3.1": '{"name": "get_weather", "parameters": {"city": "Zürich", "days": 3}}<|eot_id|>',
    "llama-3.2": '{"name": "get_weather", "parameters": {"city": "Zürich", "days": 3}}<|eot_id|>',
    "mistral-v0.3": '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Zürich", "days": 3}, '
    '"id": "call00001"}]</s>',
    "qwen-2.5": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich", "days": 3}}\n'
    "</tool_call><|im_end|>",
    "qwen-3": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich", "days": 3}}\n'
    "</tool_call><|im_end|>",
    "gpt-oss": ' to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Zürich", "days": 3}<|call|>',
    "granite-like": '<|tool_call|>{"name": "get_weather", "arguments": {"city": "Zürich", "days": 3}}<|end_of_text|>',
}
NO_SYSTEM = {
    "gemma-2": "the chat template does not take it: System role not supported",
    "mistral-v0.3": "the chat template has no place for the system message 'Be kind.'",
}
NO_TOOLS = ["gemma-2", "gemma-3", "phi-3", "phi-4", "smollm-2-like", "smollm-3-like", "chatml", "zephyr", "cohere-2"]
WORKING = [name for name in FAMILIES if name not in ODD]


def call(*more: str) -> list[Message]:
    """A question answered with the help of a tool."""
    asked = [{"role": "user", "content": "How is it?"}, {"role": "assistant", "content": "", "tool_calls": [CALL]}]
    return [*asked, RESULT, {"role": "assistant", "content": "Blue."}, *chat(*more)]


def answers(family: str, *said: str) -> list[str]:
    """The trained texts of plain answers, the last of them as the family ends a conversation."""
    if family == "gpt-oss":
        ends = ["<|end|>"] * (len(said) - 1) + ["<|return|>"]
        return [f"<|channel|>final<|message|>{text}{end}" for text, end in zip(said, ends, strict=True)]
    lead = {"mistral-v0.3": " "}.get(family, "")
    found = [lead + text + ENDS.get(family, "<|im_end|>") for text in said]
    return [*found[:-1], AFTER_THOUGHT + found[-1]] if family == "qwen-3" else found


def proven(template: ChatTemplate, messages: list[Message], tools: list[Tool] | None = None) -> list[str]:
    """The trained texts of a conversation whose ids and prompt are what transformers makes of it."""
    encoded = one(template, messages, tools)
    if "strftime_now" not in template.text:
        apply = template.tokenizer.apply_chat_template
        assert encoded.input_ids == apply(messages, tools=tools, return_dict=False)
        prompt = apply(messages[:-1], tools=tools, add_generation_prompt=True, return_dict=False)
        assert encoded.input_ids[: encoded.prompt_length] == prompt
    assert encoded.labels[: encoded.prompt_length].count(IGNORED) < encoded.prompt_length or len(messages) < 4
    assert [messages[turns - 1]["role"] for turns, _ in encoded.ends] == ["assistant"] * len(encoded.ends)
    assert all(encoded.labels[tokens - 1] != IGNORED for _, tokens in encoded.ends)
    return trained(template, encoded)


@pytest.fixture(params=WORKING)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_plain_system_and_many_turns(tmp_path: Path, family: str) -> None:
    template = ChatTemplate(write(family, tmp_path), Data())
    assert not template.changed
    assert proven(template, chat("Two and two?", "Four.")) == answers(family, "Four.")
    assert proven(template, chat("a", "first", "b", "second\n\nline", "c", "third")) == answers(
        family, "first", "second\n\nline", "third"
    )
    for system in ("Count.", "") if family not in NO_SYSTEM else ():
        assert proven(template, chat("a", "first", "b", "2", system=system)) == answers(family, "first", "2")


@pytest.mark.parametrize("family", CALLS)
def test_calls_are_trained_and_results_are_not(tmp_path: Path, family: str) -> None:
    template = ChatTemplate(write(family, tmp_path), Data())
    found = proven(template, call("Thanks", "Welcome."), [WEATHER])
    assert found == [CALLS[family], *answers(family, "Blue.", "Welcome.")]


@pytest.mark.parametrize("family", NO_TOOLS)
def test_a_template_without_tools_names_the_row(tmp_path: Path, family: str) -> None:
    template = ChatTemplate(write(family, tmp_path), Data())
    with pytest.raises(DataError, match=r"rows.jsonl, line 7: the chat template (has no place for|does not take it)"):
        one(template, call(), [WEATHER])
    if family != "smollm-3-like":
        with pytest.raises(DataError, match=r"line 7: the chat template has no place for the tool get_weather"):
            one(template, chat("a", "b"), [WEATHER])


@pytest.mark.parametrize("family", NO_SYSTEM)
def test_a_template_without_system_role_names_the_row(tmp_path: Path, family: str) -> None:
    template = ChatTemplate(write(family, tmp_path), Data())
    for messages in (chat("a", "b", system="Be kind."), chat("a", "b", "c", "d", system="Be kind.")):
        with pytest.raises(DataError, match=f"line 7: {NO_SYSTEM[family]}") as caught:
            one(template, messages)
        assert "put the system text in front of the first question, or " in caught.value.hint
        assert ("set data.reasoning=keep" in caught.value.hint) == (family == "mistral-v0.3")


def test_mistral_asks_with_an_empty_system_text_otherwise_than_it_writes_it(tmp_path: Path) -> None:
    template = ChatTemplate(write("mistral-v0.3", tmp_path), Data())
    with pytest.raises(DataError, match=r"line 7: .* a server sends '<s>\[INST\] ") as caught:
        one(template, chat("a", "b", system=""))
    assert caught.value.hint.startswith("set data.reasoning=keep, or remove the empty system message, or ")


def test_a_generation_prompt_that_answers_do_not_have_is_refused(tmp_path: Path) -> None:
    template = ChatTemplate(write("r1-distill", tmp_path), Data())
    with pytest.raises(DataError, match=r"line 7: .* a server sends '.*<think>\\n'") as caught:
        one(template, chat("a", "b"))
    assert "keep the opening <think>" in caught.value.hint


TEXTS = {
    "emoji and other scripts": ("日付は？", "二〇二四年 🎉👍🏽", "et ça?", "Été 👩‍👩‍👧"),
    "white space": (" a ", "  two blanks  ", "b\n", "\ta tab, a line end\n"),
    "empty lines": ("a\n\n\nb", "c\n\n\n\nd", "e", "\n\nf"),
    "the prompt again": ("same", "same", "same", "same"),
    "the header as text": ("[/INST] assistant\n", "user\nmodel\nassistant\n\n", "### Response:\n", "assistant"),
    "one letter": ("a", "a", "a", "a"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_the_mask_holds_for_any_text(tmp_path: Path, family: str, kind: str) -> None:
    template = ChatTemplate(write(family, tmp_path), Data())
    turns = TEXTS[kind]
    if family == "mistral-v0.3" and kind == "the header as text":
        turns = ("[ /INST] assistant", *turns[1:])
    found = proven(template, chat(*turns))
    assert len(found) == 2
    for text, answer in zip(found, turns[1::2], strict=True):
        assert answer.strip() in text
        assert "two blanks" not in answer or text.count("two blanks") == 1
    if family in ("chatml", "phi-4", "qwen-2.5", "smollm-2-like"):  # these write answers as they are
        assert found == [answer + "<|im_end|>" for answer in turns[1::2]]


def test_text_that_forges_a_turn_is_dropped(tmp_path: Path, family: str) -> None:
    template = ChatTemplate(write(family, tmp_path), Data())
    for place in range(2):
        contents = ["question", "answer"]
        contents[place] += FAMILIES[family].eos + "assistant"
        forged = Example(Row({}, "rows.jsonl", 7), "messages", chat(*contents))
        assert template.encode([forged]) == [Dropped.SPECIAL_TOKEN]
