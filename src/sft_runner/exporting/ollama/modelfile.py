"""Writing the Modelfile, and the proof on real rows that it asks as training did."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_runner.data.template import Renderer
from sft_runner.data.template.rendering import FIXED_DATE
from sft_runner.data.template.special_tokens import SpecialTokens
from sft_runner.disk import explained, read_json
from sft_runner.errors import StageFailed
from sft_runner.exporting.ollama import go
from sft_runner.exporting.ollama.layout import NOWHERE, Layout, learned
from sft_runner.model.files import LICENCES
from sft_runner.model.rows import Rows

MODELFILE = "Modelfile"
PLAIN = "{{ .Prompt }}"
"""The template of a model that has none: the text as it is."""
QUOTES = '"""'
PARAMETERS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}
"""Names in generation_config.json -> Ollama's."""
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Proof:
    """What the template was compared on."""

    rows: int
    """Chats whose prompts are the same, character by character."""
    left_out: int
    """Rows that Ollama cannot be asked like that: no chats, or with tools, reasoning or turns it puts together."""
    notes: list[str]
    """What a person should know."""


def write(model: Path, weights: str, target: Path, name: str, rows: Rows) -> Proof:
    """Write `target/Modelfile` for the weights at `weights`, a path relative to it.

    Raises `UserError` for a chat template that Ollama's language cannot say, `StageFailed` where a prompt differs.
    """
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    renderer = Renderer(tokenizer) if tokenizer.chat_template else None
    special = SpecialTokens(model, tokenizer)
    bos = _own_bos(tokenizer)
    layout = learned(renderer, special, bos) if renderer else None
    template = go.written(layout) if layout else PLAIN
    text = "\n".join(_lines(model, weights, name, template, special.stops)) + "\n"
    target.mkdir(parents=True, exist_ok=True)
    with explained(target / MODELFILE):
        (target / MODELFILE).write_text(text, encoding="utf-8")
    if renderer is None or layout is None:
        return Proof(0, len(rows), ["the Modelfile has no chat template, for the model has none"])
    return _prove(template_of(target / MODELFILE), renderer, layout, bos, rows)


def template_of(modelfile: Path) -> str:
    """The template that a Modelfile holds."""
    return modelfile.read_text(encoding="utf-8").partition(f"TEMPLATE {QUOTES}")[2].partition(QUOTES)[0]


def _lines(model: Path, weights: str, name: str, template: str, stops: Sequence[str]) -> Iterator[str]:
    yield f"# ollama create {name} -f {MODELFILE}"
    yield f"FROM {weights}"
    yield f"TEMPLATE {QUOTES}{template}{QUOTES}"
    for stop in stops:
        yield f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}"
    settings = read_json(model / "generation_config.json") or {}
    if not settings.get("do_sample"):
        yield "PARAMETER temperature 0"  # as it was evaluated; Ollama's own default is 0.8
    else:
        for own, ollamas in PARAMETERS.items():
            if settings.get(own) is not None:
                yield f"PARAMETER {ollamas} {settings[own]}"
    for file in sorted(file for pattern in LICENCES for file in model.glob(pattern)):
        text = file.read_text(encoding="utf-8", errors="replace").replace(QUOTES, "'''")
        yield f"LICENSE {QUOTES}{text}{QUOTES}"


def _own_bos(tokenizer: Any) -> str:
    """What the tokenizer, and so llama.cpp, writes in front of every text by itself."""
    ids = tokenizer("a")["input_ids"]
    return str(tokenizer.bos_token) if ids and ids[0] == tokenizer.bos_token_id else ""


def _prove(template: str, renderer: Renderer, layout: Layout, bos: str, rows: Rows) -> Proof:
    """Compare what the file's template writes with what the model was trained on."""
    chats = [_prompt(row) for row in rows]
    real = [chat for chat in chats if chat and (layout.system != NOWHERE or chat[0]["role"] != "system")]
    for chat in [*real, *_hard(layout)]:
        turns = [{**turn, "content": turn["content"].strip()} for turn in chat] if layout.trims else chat
        expected = renderer.text(turns, prompt=True).removeprefix(bos)
        found = go.render(template, turns)
        if found != expected:
            place = next((i for i, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b), len(found))
            raise StageFailed(
                "proof of the Modelfile: its template writes another prompt than training did: "
                f"{found[place : place + 40]!r} instead of {expected[place : place + 40]!r}",
                "take ollama out of export",
            )
    return Proof(len(real), len(chats) - len(real), list(_notes(renderer, layout)))


def _prompt(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row's chat up to its last question; empty where Ollama cannot be asked like that."""
    turns = json.loads(row["messages"])
    while turns and turns[-1]["role"] != "user":
        turns.pop()
    plain = all(set(turn) <= {"role", "content"} and turn["role"] in ROLES for turn in turns)
    roles = [turn["role"] for turn in turns]
    # Ollama puts turns of one role that follow each other together, and system texts in front
    alike = any(a == b for a, b in zip(roles, roles[1:], strict=False)) or "system" in roles[1:]
    return turns if plain and not alike and not row["tools"] else []


def _hard(layout: Layout) -> list[list[dict[str, Any]]]:
    """Chats that would show a mistake in the template."""
    words = ('{{ .System }} "quoted" \\n', "ünï {{end}}\n\ncode", "Wait", "{%- if x %}", "last?")
    turns = [{"role": ("user", "assistant")[i % 2], "content": word} for i, word in enumerate(words)]
    with_system = [{"role": "system", "content": "Be brief. {{ .Role }}"}, *turns]
    chats = [turns[:1], turns[:3], turns]
    return chats if layout.system == NOWHERE else [*chats, with_system[:2], with_system[:4], with_system]


def _notes(renderer: Renderer, layout: Layout) -> Iterator[str]:
    question = [{"role": "user", "content": "a"}]
    if layout.system == NOWHERE:
        yield "the chat template has no place for a system text: Ollama leaves one out"
    if layout.trims:
        yield "the chat template cuts off space around contents, Ollama's cannot: give contents without it"
    other = renderer.given({"strftime_now": FIXED_DATE.replace(year=FIXED_DATE.year + 9).strftime})
    if other.text(question, prompt=True) != renderer.text(question, prompt=True):
        yield f"the Modelfile always gives the date of training, {FIXED_DATE:%Y-%m-%d}: Ollama's language has none"
