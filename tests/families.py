"""Byte-level tokenizers with the special tokens, templates and stop tokens of real model families, and conversations.

Templates that TRL ships are read from there. The others are written down here by what the families are known to write:
Mistral v0.3 with all that its template does to system text and tools, those named `-like` simplified.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import trl
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sft_runner.data.row import Example, Message, Row, Tool
from sft_runner.data.template import IGNORED, ChatTemplate, Encoded

MISTRAL = """{%- set turns = messages[1:] if messages[0].role == "system" else messages %}
{%- set questions = turns | selectattr("role", "equalto", "user") | list %}
{{- bos_token }}
{%- for m in turns %}
    {%- if m.role == "user" %}
        {%- if tools and m == questions[-1] %}
            {{- "[AVAILABLE_TOOLS] " + (tools | tojson) + "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- set asked_with_system = loop.last and messages[0].role == "system" %}
        {{- "[INST] " + (messages[0].content + "\\n\\n" if asked_with_system else "") + m.content + "[/INST]" }}
    {%- elif m.tool_calls is defined %}
        {{- "[TOOL_CALLS] [" }}
        {%- for call in m.tool_calls %}
            {%- if call.id | length != 9 %}{{- raise_exception("Tool call IDs must have nine characters") }}{%- endif %}
            {{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' + ("" if loop.last else ", ") }}
        {%- endfor %}
        {{- "]" + eos_token }}
    {%- elif m.role == "assistant" %}
        {{- " " + m.content | trim + eos_token }}
    {%- else %}
        {{- '[TOOL_RESULTS] {"content": ' + m.content + ', "call_id": "' + m.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- endif %}
{%- endfor %}
"""
PHI_4 = """{% for m in messages %}
{{- '<|im_start|>' + m['role'] + '<|im_sep|>' + m['content'] + '<|im_end|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"""
CHATML = """{% for m in messages %}
{{- '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
SMOLLM_2 = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are SmolLM<|im_end|>\n' }}{% endif %}" + CHATML
)
SMOLLM_3 = """{%- set thinks = enable_thinking | default(true) %}
{%- set system = "" %}
{%- if messages[0].role == "system" %}
    {%- set system = messages[0].content.replace("/no_think", "").rstrip() %}
    {%- set thinks = thinks and "/no_think" not in messages[0].content %}
{%- endif %}
{{- "<|im_start|>system\\n## Metadata\\n\\nToday Date: " ~ strftime_now("%d %B %Y") ~ "\\nReasoning Mode: " }}
{{- "/think" if thinks else "/no_think" }}
{{- "\\n\\n## Custom Instructions\\n\\n" + (system or "You are SmolLM.") + "\\n\\n" }}
{%- for tool in tools or [] %}{{- tool | string + "\\n" }}{%- endfor %}
{%- for m in messages %}
    {%- if m.role == "user" %}
        {{- "<|im_start|>user\\n" + m.content + "<|im_end|>\\n" }}
    {%- elif m.role == "assistant" %}
        {%- generation %}
        {{- "<|im_start|>assistant\\n" + ("" if thinks else "<think>\\n\\n</think>\\n") }}
        {{- m.content.lstrip("\\n") + "<|im_end|>\\n" }}
        {%- endgeneration %}
    {%- elif m.role == "tool" %}
        {{- "<|im_start|>user\\n" + m.content + "<|im_end|>\\n" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|im_start|>assistant\\n" + ("" if thinks else "<think>\\n\\n</think>\\n") }}
{%- endif %}
"""
ZEPHYR = """{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"""
GRANITE = """{%- if messages[0].role != "system" %}
    {{- "<|start_of_role|>system<|end_of_role|>Today's Date: " + strftime_now("%B %d, %Y") + ".<|end_of_text|>\\n" }}
{%- endif %}
{%- if tools %}
    {{- "<|start_of_role|>tools<|end_of_role|>" + tools | tojson(indent=4) + "<|end_of_text|>\\n" }}
{%- endif %}
{%- for m in messages %}
    {{- "<|start_of_role|>" + m.role + "<|end_of_role|>" + m.content }}
    {%- for call in m.tool_calls or [] %}{{- "<|tool_call|>" + call.function | tojson }}{%- endfor %}
    {{- "<|end_of_text|>\\n" }}
{%- endfor %}
{%- if add_generation_prompt %}{{- "<|start_of_role|>assistant<|end_of_role|>" }}{%- endif %}
"""


@dataclass(frozen=True)
class Family:
    """How a family marks its turns."""

    template: str
    """A Jinja text, or the name of a file that TRL ships."""
    eos: str
    """Ends generation."""
    special: tuple[str, ...]
    """Other special tokens."""
    bos: str = ""
    """Starts every text."""
    stops: tuple[str, ...] = ()
    """What generation_config.json names, where it names something."""
    plain: tuple[str, ...] = ()
    """Added tokens that are not special."""


IM = ("<|im_start|>", "<|endoftext|>")
LLAMA = ("<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|python_tag|>")
LLAMA_STOPS = ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")
GEMMA = ("<start_of_turn>", "<end_of_turn>")
OSS = ("<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|call|>", "<|endoftext|>", "<|constrain|>")
FILL = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
THINK = ("<think>", "</think>")
PHI_3 = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
INST = ("[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]")  # fmt: skip  # noqa: E501
COHERE = ("<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>")  # fmt: skip  # noqa: E501
GLM = ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
LFM = (*IM, "<|tool_list_start|>", "<|tool_list_end|>", "<|tool_call_start|>", "<|tool_call_end|>", "<|tool_response_start|>", "<|tool_response_end|>")  # fmt: skip  # noqa: E501
R1 = ("<｜User｜>", "<｜Assistant｜>", "<｜tool▁calls▁begin｜>", "<｜tool▁outputs▁begin｜>", "<｜tool▁output▁begin｜>")
FAMILIES = {
    "llama-3.1": Family("llama3_1.jinja", "<|eot_id|>", LLAMA, "<|begin_of_text|>", LLAMA_STOPS),
    "llama-3.2": Family("llama3_2.jinja", "<|eot_id|>", LLAMA, "<|begin_of_text|>", LLAMA_STOPS),
    "mistral-v0.3": Family(MISTRAL, "</s>", INST, "<s>"),
    "gemma-2": Family("gemma.jinja", "<eos>", GEMMA, "<bos>", ("<eos>", "<end_of_turn>")),
    "gemma-3": Family("gemma3.jinja", "<eos>", GEMMA, "<bos>", ("<eos>", "<end_of_turn>")),
    "phi-3": Family("phi3.jinja", "<|endoftext|>", PHI_3, "<s>", ("<|endoftext|>", "<|assistant|>", "<|end|>")),
    "phi-4": Family(PHI_4, "<|im_end|>", (*IM, "<|im_sep|>")),
    "qwen-2.5": Family(
        "qwen2_5.jinja",
        "<|im_end|>",
        (*IM, *FILL),
        "",
        ("<|im_end|>", "<|endoftext|>"),
        ("<tool_call>", "</tool_call>"),
    ),
    "qwen-3": Family("qwen3.jinja", "<|im_end|>", IM, "", ("<|im_end|>", "<|endoftext|>"), THINK),
    "gpt-oss": Family("gptoss.jinja", "<|return|>", OSS, "", ("<|return|>", "<|endoftext|>", "<|call|>")),
    "smollm-2-like": Family(SMOLLM_2, "<|im_end|>", IM, "<|im_start|>"),
    "smollm-3-like": Family(SMOLLM_3, "<|im_end|>", IM, "", (), THINK),
    "chatml": Family(CHATML, "<|im_end|>", IM),
    "zephyr": Family(ZEPHYR, "</s>", (), "<s>"),
    "granite-like": Family(GRANITE, "<|end_of_text|>", ("<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>")),
    "r1-distill": Family(
        "deepseek_r1_distill.jinja", "<｜end▁of▁sentence｜>", (), "<｜begin▁of▁sentence｜>", (), (*R1, *THINK)
    ),
    "cohere-2": Family("cohere2.jinja", "<|END_OF_TURN_TOKEN|>", COHERE, "<BOS_TOKEN>"),
    "glm-4.5": Family(
        "glm4moe.jinja", "<|endoftext|>", GLM, "", ("<|endoftext|>", "<|user|>", "<|observation|>"), THINK
    ),
    "lfm-2": Family("lfm2_v2.jinja", "<|im_end|>", LFM, "<|startoftext|>"),
    "qwen-3.5": Family("qwen3_5_think.jinja", "<|im_end|>", IM, "", ("<|im_end|>", "<|endoftext|>"), THINK),
}
ODD = ("glm-4.5", "qwen-3.5", "r1-distill")
"""Those that ask for answers otherwise than they write them, or leave the end of an answer out."""


def write(name: str, folder: Path, template: str = "") -> Path:
    """The tokenizer files of a family; `template` replaces its own."""
    family = FAMILIES[name]
    tokenizer(name).save_pretrained(folder)
    text = template or family.template
    if text.endswith(".jinja"):
        text = (Path(trl.__file__).parent / "chat_templates" / text).read_text(encoding="utf-8")
    (folder / "chat_template.jinja").write_text(text, encoding="utf-8")
    if family.stops:
        ids = tokenizer(name).convert_tokens_to_ids(list(family.stops))
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    return folder


@cache
def tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The family's special tokens in front of 256 bytes."""
    family = FAMILIES[name]
    special = [name for name in dict.fromkeys((family.bos, family.eos, *family.special)) if name]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={byte: i for i, byte in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    made.add_tokens([AddedToken(name, normalized=False) for name in family.plain])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token=family.bos or None, eos_token=family.eos)


CALL = {
    "id": "call00001",
    "type": "function",
    "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": 3}},
}
WEATHER: Tool = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}


def chat(*contents: str, system: str | None = None) -> list[Message]:
    """Turns of user and assistant by turns."""
    turns = [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]
    return turns if system is None else [{"role": "system", "content": system}, *turns]


def one(template: ChatTemplate, messages: list[Message], tools: list[Tool] | None = None, **of: Any) -> Encoded:
    """The only row made of a conversation."""
    example = Example(Row({}, "rows.jsonl", 7), "messages", messages, tools or [], **of)
    (found,) = template.encode([example])
    assert isinstance(found, list)
    (encoded,) = found
    return encoded


def trained(template: ChatTemplate, encoded: Encoded) -> list[str]:
    """The text of each run of trained tokens."""
    spans: list[list[int]] = [[]]
    for token, label in zip(encoded.input_ids, encoded.labels, strict=True):
        if label == IGNORED:
            spans.append([])
        else:
            assert token == label
            spans[-1].append(token)
    assert encoded.trained == sum(map(len, spans))
    return [template.tokenizer.decode(span) for span in spans if span]
