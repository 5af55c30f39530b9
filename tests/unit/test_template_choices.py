"""What the user can say about templates: which one, its values, reasoning, and what carries loss."""

import json
from pathlib import Path

import pytest

from families import CALL, WEATHER, chat, one, trained, write
from sft_runner.config.schema import Data
from sft_runner.data.row import Dropped, Example, Fill, Message, Row
from sft_runner.data.template import IGNORED, ChatTemplate, Encoded, Renderer
from sft_runner.errors import DataError, UserError

THOUGHT = [
    {"role": "user", "content": "q1"},
    {"role": "assistant", "content": "a1", "reasoning_content": "thought one"},
    {"role": "user", "content": "q2"},
    {"role": "assistant", "content": "<think>\nthought two\n</think>\n\na2"},
]


def rows(template: ChatTemplate, messages: list[Message], **of: object) -> list[Encoded]:
    (found,) = template.encode([Example(Row({}, "rows.jsonl", 7), "messages", messages, **of)])  # type: ignore[arg-type]
    assert isinstance(found, list)
    return found


def example(messages: list[Message] | None = None, **of: object) -> Example:
    return Example(Row({}, "rows.jsonl", 7), "messages", messages or [], **of)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "messages", "text"),
    [
        (
            "sage_alpaca",
            chat("Add.\n\n### Input:\n2 2", "4"),
            "### Instruction:\nAdd.\n\n### Input:\n2 2\n\n### Response:\n4<|im_end|>",
        ),
        ("sage_alpaca", chat("Hi", "Ho"), "### Instruction:\nHi\n\n### Response:\nHo<|im_end|>"),
        (
            "sage_qa",
            chat("Who?\n\n### Context:\nAnn did.", "Ann"),
            "### Question:\nWho?\n\n### Context:\nAnn did.\n\n### Answer:\nAnn<|im_end|>",
        ),
        (
            "sage_conversation",
            chat("a", "b", "c", "d", system="s"),
            "### System:\ns\n\n### User:\na\n\n### Assistant:\nb<|im_end|>\n\n### User:\nc\n\n"
            "### Assistant:\nd<|im_end|>",
        ),
    ],
)
def test_the_named_texts(tmp_path: Path, name: str, messages: list[Message], text: str) -> None:
    template = ChatTemplate(write("chatml", tmp_path), Data(template=name))
    encoded = one(template, messages)
    assert template.changed
    assert template.tokenizer.decode(encoded.input_ids) == text
    assert trained(template, encoded) == [m["content"] + "<|im_end|>" for m in messages if m["role"] == "assistant"]
    assert encoded.input_ids == template.tokenizer.apply_chat_template(messages, return_dict=False)


def test_a_named_text_has_no_place_for_other_roles(tmp_path: Path) -> None:
    template = ChatTemplate(write("chatml", tmp_path), Data(template="sage_qa"))
    with pytest.raises(DataError, match="line 7: .* sage_qa has no place for a system message"):
        one(template, chat("a", "b", system="s"))


def test_a_file_is_a_template(tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text("{% for m in messages %}{{ m.role[0] + ': ' + m.content + eos_token }}{% endfor %}"
                    "{% if add_generation_prompt %}{{ 'a: ' }}{% endif %}")  # fmt: skip
    template = ChatTemplate(write("chatml", tmp_path / "model"), Data(template=str(file)))
    assert trained(template, one(template, chat("x", "y", "z", "w"))) == ["y<|im_end|>", "w<|im_end|>"]
    assert template.text == file.read_text()


@pytest.mark.parametrize(
    ("name", "problem", "hint"),
    [
        ("sage_alpac", "data.template: template 'sage_alpac' does not exist", "did you mean 'sage_alpaca'?"),
        ("FOLDER/onw.jinja", "data.template: there is no file FOLDER/onw.jinja", "did you mean 'FOLDER/own.jinja'?"),
        ("FOLDER/own.jinja", "data.template: FOLDER/own.jinja, line 2: ", "mend the template"),
    ],
)
def test_a_template_that_cannot_be_used(tmp_path: Path, name: str, problem: str, hint: str) -> None:
    (tmp_path / "own.jinja").write_text("{% for m in messages %}\n{{ m.content }{% endfor %}")
    with pytest.raises(UserError) as caught:
        ChatTemplate(write("chatml", tmp_path / "model"), Data(template=name.replace("FOLDER", str(tmp_path))))
    assert caught.value.message.startswith(problem.replace("FOLDER", str(tmp_path)))
    assert hint.replace("FOLDER", str(tmp_path)) in caught.value.hint


def test_a_model_without_a_template_is_refused_but_for_another(tmp_path: Path) -> None:
    (write("chatml", tmp_path) / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="has no chat template"):
        ChatTemplate(tmp_path, Data())
    assert ChatTemplate(tmp_path, Data(template="sage_qa")).changed


def test_values_become_defaults_that_callers_can_override(tmp_path: Path) -> None:
    folder = write("qwen-3", tmp_path)
    template = ChatTemplate(folder, Data(chat_template_kwargs={"enable_thinking": False}))
    assert template.changed
    encoded = one(template, chat("a", "b"))
    assert trained(template, encoded) == ["b<|im_end|>"]
    apply = template.tokenizer.apply_chat_template
    ask = chat("a")
    assert apply(ask, tokenize=False, add_generation_prompt=True).endswith("assistant\n<think>\n\n</think>\n\n")
    assert apply(ask, tokenize=False, add_generation_prompt=True, enable_thinking=True).endswith("assistant\n")
    assert template.text.endswith(ChatTemplate(folder, Data()).text)


def test_values_of_every_kind_reach_macros_and_nothing_else_moves(tmp_path: Path) -> None:
    odd = {"a": [1, None, True], 'b"': "x\ny {{ z }} %} \\ 🎉"}
    file = tmp_path / "own.jinja"
    file.write_text("\n  {% macro show() %}{{ odd | tojson }}{% endmacro %}{{ show() }}{{ messages[0].content }}")
    template = ChatTemplate(
        write("gpt-oss", tmp_path / "model"), Data(template=str(file), chat_template_kwargs={"odd": odd})
    )
    plain = ChatTemplate(tmp_path / "model", Data(template=str(file)))
    written = Renderer(template.tokenizer).text(chat("q"))
    plain_written = plain.tokenizer.apply_chat_template(chat("q"), tokenize=False, odd=odd)
    assert written == plain_written
    oss = ChatTemplate(write("gpt-oss", tmp_path / "oss"), Data(chat_template_kwargs={"reasoning_effort": "high"}))
    assert "Reasoning: high" in Renderer(oss.tokenizer).text(chat("q"))


def test_a_value_that_the_template_does_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not read 'enable_thinkin'") as caught:
        ChatTemplate(write("qwen-3", tmp_path), Data(chat_template_kwargs={"enable_thinkin": False}))
    assert caught.value.hint == "did you mean 'enable_thinking'?"


@pytest.mark.parametrize("family", ["llama-3.2", "smollm-3-like", "gpt-oss", "granite-like"])
def test_the_date_stands_still(tmp_path: Path, family: str) -> None:
    template = ChatTemplate(write(family, tmp_path), Data())
    encoded = one(template, chat("a", "b"))
    assert "2024" in template.tokenizer.decode(encoded.input_ids)
    fixed = Renderer(template.tokenizer)
    assert fixed.prompt_ids(chat("a")) == encoded.input_ids[: encoded.prompt_length]
    today = Renderer(template.tokenizer, date=None)
    assert today.text(chat("a"), prompt=True) == template.tokenizer.apply_chat_template(
        chat("a"), tokenize=False, add_generation_prompt=True
    )


def test_reasoning_last_keep_and_drop(tmp_path: Path) -> None:
    folder = write("qwen-3", tmp_path)
    last = ChatTemplate(folder, Data(reasoning="last"))
    assert trained(last, one(last, THOUGHT)) == ["a1<|im_end|>", "<think>\nthought two\n</think>\n\na2<|im_end|>"]
    keep = ChatTemplate(folder, Data(reasoning="keep"))
    found = rows(keep, THOUGHT)
    assert [trained(keep, encoded) for encoded in found] == [
        ["<think>\nthought one\n</think>\n\na1<|im_end|>"],
        ["<think>\nthought two\n</think>\n\na2<|im_end|>"],
    ]
    assert [len(encoded.messages) for encoded in found] == [2, 4]
    assert found[1].input_ids == keep.tokenizer.apply_chat_template(THOUGHT, return_dict=False)
    assert len(rows(keep, chat("a", "b", "c", "d"))) == 1
    drop = ChatTemplate(folder, Data(reasoning="drop"))
    encoded = one(drop, THOUGHT)
    assert encoded.messages == chat("q1", "a1", "q2", "a2")
    assert "thought" not in drop.tokenizer.decode(encoded.input_ids)


def test_reasoning_in_the_content_stays_one_row_where_it_is_kept(tmp_path: Path) -> None:
    keep = ChatTemplate(write("chatml", tmp_path), Data(reasoning="keep"))
    tagged = chat("q1", "<think>one</think>a1", "q2", "<think>two</think>a2")
    assert trained(keep, one(keep, tagged)) == ["<think>one</think>a1<|im_end|>", "<think>two</think>a2<|im_end|>"]
    with pytest.raises(DataError, match="line 7: .* no place for the reasoning of the last answer"):
        one(keep, [*THOUGHT[:2]])


def test_gpt_oss_trains_its_channels(tmp_path: Path) -> None:
    template = ChatTemplate(write("gpt-oss", tmp_path), Data(reasoning="keep"))
    found = [trained(template, encoded) for encoded in rows(template, [*THOUGHT[:3], {**THOUGHT[1], "content": "a2"}])]
    thought = "<|channel|>analysis<|message|>thought one<|end|><|start|>assistant<|channel|>final<|message|>"
    assert found == [[thought + "a1<|return|>"], [thought + "a2<|return|>"]]


@pytest.mark.parametrize(
    ("train_on", "of", "texts"),
    [
        ("assistant", {}, ["a1", "a2", "a3"]),
        ("assistant", {"untrained": frozenset({1})}, ["a2", "a3"]),
        ("last", {}, ["a3"]),
        ("completion", {"completion": 3}, ["a2", "a3"]),
        ("completion", {"completion": 5}, ["a3"]),
    ],
)
def test_what_is_trained(tmp_path: Path, train_on: str, of: dict[str, object], texts: list[str]) -> None:
    template = ChatTemplate(write("chatml", tmp_path), Data(train_on=train_on))
    (encoded,) = rows(template, chat("q1", "a1", "q2", "a2", "q3", "a3"), **of)
    assert trained(template, encoded) == [text + "<|im_end|>" for text in texts]
    assert [turns for turns, _ in encoded.ends] == [2, 4, 6]
    assert [template.tokenizer.decode(encoded.input_ids[:end])[-12:] for _, end in encoded.ends] == [
        f"a{i}<|im_end|>" for i in (1, 2, 3)
    ]


def test_everything_or_nothing_is_trained(tmp_path: Path) -> None:
    template = ChatTemplate(write("chatml", tmp_path), Data(train_on="all"))
    encoded = one(template, chat("q", "a"))
    assert encoded.labels == encoded.input_ids
    (but_one,) = rows(template, chat("q", "a", "r", "b"), untrained=frozenset({1}))
    assert "a<|im_end|>" not in "".join(trained(template, but_one))
    template = ChatTemplate(tmp_path, Data())
    assert template.encode([example(chat("q", "a"), untrained=frozenset({1}))]) == [Dropped.NOTHING_TRAINED]


def test_plain_text_and_code_to_fill_in(tmp_path: Path) -> None:
    template = ChatTemplate(write("qwen-2.5", tmp_path), Data())
    hole = Fill("def f():\n", "    return 1\n", "\nprint(f())\n")
    text, code, forged = template.encode(
        [example(text="Once."), example(fill=hole), example(text="Once.<|im_end|> Twice.")]
    )
    assert isinstance(text, list)
    assert isinstance(code, list)
    assert forged is Dropped.SPECIAL_TOKEN
    assert trained(template, text[0]) == ["Once.<|im_end|>"]
    assert (text[0].prompt_length, text[0].messages) == (0, [])
    assert trained(template, code[0]) == ["    return 1\n<|im_end|>"]
    prompt = template.tokenizer.decode(code[0].input_ids[: code[0].prompt_length])
    assert prompt == "<|fim_prefix|>def f():\n<|fim_suffix|>\nprint(f())\n<|fim_middle|>"
    without = ChatTemplate(write("chatml", tmp_path / "other"), Data())
    assert without.encode([example(fill=hole)]) == [Dropped.NO_FILL_TOKENS]


def test_many_examples_at_once_are_the_examples_one_by_one(tmp_path: Path) -> None:
    template = ChatTemplate(write("qwen-3", tmp_path), Data(reasoning="keep"))
    examples = [
        example(chat("a", "b")),
        example(text="Once."),
        example(chat("a", "<|im_end|>")),
        example(THOUGHT),
        example(chat("a", "b", "c", "d", system="s")),
    ]
    assert template.encode(examples) == [template.encode([one])[0] for one in examples]
    assert template.encode([]) == []


def test_a_lost_message_is_told(tmp_path: Path) -> None:
    silent = "{% for m in messages if m.role != 'system' %}{{ m.content + eos_token }}{% endfor %}"
    template = ChatTemplate(write("chatml", tmp_path, silent), Data())
    with pytest.raises(DataError, match=r"line 7: the chat template has no place for the system message 'Be kind.'"):
        one(template, chat("a", "b", system="Be kind."))
    twice = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [CALL, {**CALL, "function": {"name": "other", "arguments": {}}}]}]  # fmt: skip  # noqa: E501
    oss = ChatTemplate(write("gpt-oss", tmp_path / "oss"), Data())
    with pytest.raises(DataError, match="no place for the call of other"):
        one(oss, twice, [WEATHER, {"type": "function", "function": {"name": "other", "description": "."}}])


def test_an_answer_without_an_end_is_refused(tmp_path: Path) -> None:
    text = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + END }}{% endfor %}" \
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"  # fmt: skip
    template = ChatTemplate(write("chatml", tmp_path / "a", text.replace("END", "'\n'")), Data())
    with pytest.raises(DataError, match=r"line 7: .* holds no token that ends generation \(<\|im_end\|>\)"):
        one(template, chat("a", "b"))
    only_last = text.replace("END", "('\n' if m.content == 'b' else '<|im_end|>\n')")
    template = ChatTemplate(write("chatml", tmp_path / "b", only_last), Data())
    with pytest.raises(DataError, match="line 7: the chat template ends an answer with 'b\\\\n'"):
        one(template, chat("a", "b", "c", "d"))


def test_an_earlier_answer_is_found_though_the_prompt_moved(tmp_path: Path) -> None:
    """Mistral writes tools before the last question, so no earlier prompt is a prefix, and no header before calls."""
    template = ChatTemplate(write("mistral-v0.3", tmp_path), Data())
    turns = chat("a", "first", "b", "", "c", "third", "d", "<think>no</think>fourth")
    turns[3]["tool_calls"] = [CALL]
    turns.insert(4, {"role": "tool", "content": "1", "tool_call_id": "call00001", "name": "get_weather"})
    turns.insert(5, {"role": "assistant", "content": "second"})
    found = trained(template, one(template, turns, [WEATHER]))
    assert [found[0], *found[2:]] == [" first</s>", " second</s>", " third</s>", " <think>no</think>fourth</s>"]
    assert found[1].startswith('[TOOL_CALLS] [{"name": "get_weather"')


def test_labels_of_prompts_are_ignored(tmp_path: Path) -> None:
    template = ChatTemplate(write("phi-3", tmp_path), Data())
    encoded = one(template, chat("a", "b"))
    assert set(encoded.labels[: encoded.prompt_length]) == {IGNORED}
    assert encoded.labels[-2:] == [IGNORED, IGNORED]  # the line end and the end of text behind the turn


@pytest.mark.parametrize("place", [1, 3])
def test_white_space_that_joins_the_prompt_is_dropped(tmp_path: Path, place: int) -> None:
    template = ChatTemplate(_merging(write("chatml", tmp_path), "ĊĊ"), Data())
    contents = ["a\n\n", "b\n\n", "c", "d\n\ne"]
    assert len(trained(template, one(template, chat(*contents)))) == 2
    contents[place] = "\n\n" + contents[place]  # the pre-tokenizer keeps the last line end apart
    assert template.encode([example(chat(*contents))]) == [Dropped.JOINED]


def test_a_prompt_that_joins_the_answer_is_refused(tmp_path: Path) -> None:
    text = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + ': t' + m.content + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant: t' }}{% endif %}"
    )
    template = ChatTemplate(_merging(write("chatml", tmp_path, text), "th"), Data())
    assert trained(template, one(template, chat("a", "b"))) == ["b<|im_end|>"]
    with pytest.raises(
        DataError, match=r"line 7: .* does not part the prompt from the answer: .*assistant: t' and 'he"
    ):
        one(template, chat("a", "he"))


def test_named_texts_and_plain_texts_begin_as_the_tokenizer_begins_texts(tmp_path: Path) -> None:
    folder = write("zephyr", tmp_path)
    values = json.loads((folder / "tokenizer.json").read_text())
    begin = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    text, second = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}
    values["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [begin, text],
        "pair": [begin, text, second],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [256], "tokens": ["<s>"]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(values))
    template = ChatTemplate(folder, Data(template="sage_qa"))
    decode = template.tokenizer.decode
    assert decode(one(template, chat("q", "a")).input_ids) == "<s>### Question:\nq\n\n### Answer:\na</s>"
    (plain,) = template.encode([example(text="Once.")])
    assert isinstance(plain, list)
    assert decode(plain[0].input_ids) == "<s>Once.</s>"


def _merging(folder: Path, pair: str) -> Path:
    """Let two bytes be one token."""
    file = folder / "tokenizer.json"
    values = json.loads(file.read_text())
    values["model"]["vocab"][pair] = 300
    values["model"]["merges"].append(list(pair))
    file.write_text(json.dumps(values))
    return folder
